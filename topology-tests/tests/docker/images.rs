//! The images: Debian and FRR as the distribution has them, once; Cambric as it was just built, each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cambric_lab::Docker;

/// As the Dockerfiles call it.
const DEBIAN: &str = "debian:bookworm-slim";

/// As `containerlab/*/*.clab.yml` calls it.
const FRR: &str = "frrouting/frr:v8.4.1";

/// The image as the manifests call it.
pub(crate) const CAMBRIC: &str = concat!("cambric:", env!("CARGO_PKG_VERSION"));

/// A node of a containerlab file.
const LAB: &str = "cambric-lab:latest";

/// A host: what [`LAB`] is over.
pub(crate) const HOST: &str = "cambric-host:latest";

/// Makes what comes from Debian's mirror, unless it is there.
pub(crate) fn of_debian(docker: &Docker, folder: &Path) -> Result<()> {
    if docker.run_ok(&["image", "inspect", DEBIAN]).is_err() {
        let root = folder.join("rootfs");
        let _ = fs::remove_dir_all(&root); // of a run that was killed
        eprintln!("debootstrap: a Debian base, kept for later runs");
        run(Command::new("/usr/sbin/debootstrap").args(["--variant=minbase", "bookworm"]).arg(&root))?;
        for part in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            fs::remove_dir_all(root.join(part))?;
        }
        let tar = folder.join("rootfs.tar");
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."))?;
        docker.run_ok(&["import", "--change", "CMD [\"bash\"]", &tar.to_string_lossy(), DEBIAN])?;
        fs::remove_dir_all(&root)?;
        fs::remove_file(&tar)?;
    }
    // A daemon may answer where no container can start: without cgroups, say.
    docker.run_ok(&["run", "--rm", "--network", "none", DEBIAN, "true"])?;
    let frr = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/frr");
    build(docker, &["--tag", FRR], &frr)
}

/// Makes the images of this tree, with the binaries of `make static`.
pub(crate) fn of_cambric(docker: &Docker) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dockerfile = root.join("deploy/image/Dockerfile");
    let version = concat!("VERSION=", env!("CARGO_PKG_VERSION"));
    for (target, tag) in [(None, CAMBRIC), (Some("lab"), LAB), (Some("host"), HOST)] {
        let target = target.map(|name| ["--target", name]);
        let common = ["--build-arg", "BINARIES=outside", "--build-arg", version, "--tag", tag, "--file"];
        let words: Vec<&str> = common.into_iter().chain([dockerfile.to_str().context("a path")?]).collect();
        build(
            docker,
            &[&words, target.iter().flatten().copied().collect::<Vec<_>>().as_slice()].concat(),
            &binaries(),
        )?;
    }
    Ok(())
}

/// The files of the image, without their folders.
pub(crate) fn files(docker: &Docker) -> Result<Vec<String>> {
    let tar = tempfile::NamedTempFile::new()?;
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/image/Dockerfile");
    let output = format!("type=tar,dest={}", tar.path().display());
    let words = [
        "--build-arg",
        "BINARIES=outside",
        "--output",
        &output,
        "--file",
        dockerfile.to_str().context("a path")?,
    ];
    build(docker, &words, &binaries())?;
    let listed = Command::new("tar").arg("-tf").arg(tar.path()).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    Ok(listed.lines().filter(|line| !line.ends_with('/')).map(str::to_owned).collect())
}

/// Where `make static` puts them.
pub(crate) fn binaries() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/static/dev")
}

fn build(docker: &Docker, words: &[&str], context: &Path) -> Result<()> {
    let context = context.to_string_lossy();
    // Without a bridge the host's network is the only way out.
    let all = [&["build", "--quiet", "--network", "host"], words, &[&context]].concat();
    run(docker.command(&all).env("DOCKER_BUILDKIT", "1"))
}

fn run(command: &mut Command) -> Result<()> {
    let what = format!("{command:?}");
    let output = command.output().with_context(|| what.clone())?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
    Ok(())
}
