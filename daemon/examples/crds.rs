//! Writes the CustomResourceDefinitions of our kinds to `deploy/crds`, and the copies that kustomize, which reads
//! nothing outside its own folder, and Helm need.

use std::fs;
use std::path::Path;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let files = cambricd::crds::files()?;
    for folder in ["crds", "helm/cambric/crds"] {
        for (name, text) in &files {
            write(&format!("{folder}/{name}"), text)?;
        }
    }
    let all: Vec<&str> = files.values().map(String::as_str).collect();
    write("base/crds.yaml", &all.join("---\n"))
}

fn write(name: &str, text: &str) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    let folder = path.parent().context("a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    println!("deploy/{name}");
    Ok(())
}
