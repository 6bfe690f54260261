"""Writes an image of one layer as a docker-archive, which `ctr images import` takes.

    image.py OUT.tar CONTENT
    {"name": "cambric:0.1.0", "files": {"bin/cambricd": "/path/of/it"}, "links": {"bin/sh": "busybox"},
     "entrypoint": ["/bin/cambricd"], "command": []}
"""

import hashlib
import io
import json
import os
import platform
import sys
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def entry(archive, name, content=b"", kind=tarfile.REGTYPE, mode=0o755, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, target, len(content)
    archive.addfile(info, io.BytesIO(content))


def main():
    out, content = sys.argv[1], json.loads(sys.argv[2])
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        names = [*content["files"], *content["links"]]
        for folder in sorted({os.path.dirname(name) for name in names}):
            entry(archive, folder, kind=tarfile.DIRTYPE)
        for name, source in content["files"].items():
            with open(source, "rb") as file:
                entry(archive, name, file.read())
        for name, target in content["links"].items():
            entry(archive, name, kind=tarfile.SYMTYPE, target=target)
    layer = layer.getvalue()
    layer_id = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": content["entrypoint"], "Cmd": content["command"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + layer_id]},
    }
    config = json.dumps(config).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    layer_name = layer_id + "/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": [content["name"]], "Layers": [layer_name]}]
    with tarfile.open(out, "w") as archive:
        entry(archive, layer_name, layer, mode=0o644)
        entry(archive, config_name, config, mode=0o644)
        entry(archive, "manifest.json", json.dumps(manifest).encode(), mode=0o644)


main()
