//! Writes the CustomResourceDefinitions of our kinds to `deploy/crds`.

use std::fs;
use std::path::Path;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    for (name, text) in cambricd::crds::files()? {
        let path = folder.join(&name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("deploy/crds/{name}");
    }
    Ok(())
}
