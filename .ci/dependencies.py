#!/usr/bin/env python3
"""Holds the dependencies against deny.toml where cargo-deny is not installed.

Licences, bans, several versions of one crate, sources. Not here: known vulnerabilities, which need cargo-deny and
its database. Prints what it looked at; exits with 1 and one line a finding if something is wrong.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict

Tokens = list[str]


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met by the allowed licences. Cargo's old `/` means OR.

    >>> is_allowed("MIT OR GPL-3.0", {"MIT"})
    True
    >>> is_allowed("MIT/GPL-3.0", {"MIT"})
    True
    >>> is_allowed("MIT AND GPL-3.0", {"MIT"})
    False
    >>> is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0", {"MIT", "Unicode-3.0"})
    True
    >>> is_allowed("MIT AND (Unicode-3.0 OR GPL-3.0 AND ISC)", {"MIT", "ISC"})
    False
    >>> is_allowed("Apache-2.0 WITH LLVM-exception", {"Apache-2.0"})
    False
    >>> is_allowed("", {"MIT"})
    False
    """
    tokens: Tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    return bool(tokens) and any_of(tokens, allowed) and not tokens


def any_of(tokens: Tokens, allowed: set[str]) -> bool:
    met = all_of(tokens, allowed)
    while tokens[:1] == ["OR"]:
        tokens.pop(0)
        met = all_of(tokens, allowed) or met
    return met


def all_of(tokens: Tokens, allowed: set[str]) -> bool:
    met = licence(tokens, allowed)
    while tokens[:1] == ["AND"]:
        tokens.pop(0)
        met = licence(tokens, allowed) and met
    return met


def licence(tokens: Tokens, allowed: set[str]) -> bool:
    first = tokens.pop(0) if tokens else ""
    if first == "(":
        met = any_of(tokens, allowed)
        return tokens.pop(0) == ")" and met if tokens else False
    if tokens[:1] == ["WITH"]:
        first = f"{first} WITH {tokens[1] if len(tokens) > 1 else ''}"
        del tokens[:2]
    return first in allowed


def fits(entry: dict, name: str, version: str) -> bool:
    """Whether an entry of deny.toml, `name` or `name@version`, means this crate.

    >>> fits({"crate": "syn@2"}, "syn", "2.0.119"), fits({"crate": "syn@2"}, "syn", "20.0.0")
    (True, False)
    >>> fits({"crate": "syn"}, "syn", "3.0.9"), fits({"crate": "syn"}, "synstructure", "0.1.0")
    (True, False)
    """
    wanted_name, _, wanted_version = entry["crate"].partition("@")
    return name == wanted_name and f"{version}.".startswith(f"{wanted_version}." if wanted_version else "")


def findings(policy: dict, metadata: dict) -> list[str]:
    ours = set(metadata["workspace_members"])
    used = {node["id"] for node in metadata["resolve"]["nodes"]} - ours
    packages = [package for package in metadata["packages"] if package["id"] in used]
    allowed = set(policy["licenses"]["allow"])
    bans = policy["bans"]
    found = []
    versions = defaultdict(list)
    for package in packages:
        name, version = package["name"], package["version"]
        if not is_allowed(package["license"] or "", allowed):
            found.append(f"{name} {version}: licence \"{package['license']}\" is not among those of deny.toml")
        for entry in bans["deny"]:
            if fits(entry, name, version):
                found.append(f"{name} {version}: {entry['reason']}")
        # A path dependency outside of the workspace has no source; git is named as such.
        if not (package["source"] or "").startswith("registry+"):
            found.append(f"{name} {version}: comes from {package['source'] or 'a path'}, not from the registry")
        if not any(fits(entry, name, version) for entry in bans["skip"]):
            versions[name].append(version)
    for name, several in sorted(versions.items()):
        if len(several) > 1:
            found.append(f"{name}: in several versions: {', '.join(sorted(several))}")
    for entry in bans["skip"]:
        if not any(fits(entry, package["name"], package["version"]) for package in packages):
            found.append(f"deny.toml: skip of {entry['crate']} is needed no more")
    print(f"dependencies: {len(packages)} crates, {len(found)} findings")
    return found


def main() -> int:
    with open("deny.toml", "rb") as file:
        policy = tomllib.load(file)
    host = re.search(r"^host: (.*)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M).group(1)
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host]
    found = findings(policy, json.loads(subprocess.check_output(command)))
    for finding in found:
        print(f"dependencies: {finding}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
