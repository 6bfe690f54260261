//! The double as a process: for people with kubectl, and for tests in other processes.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;
use cambric_apiserver_double::{ApiServer, Certificates};
use clap::Parser;

/// A Kubernetes API server that keeps everything in memory. For tests.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address and port to serve on; port 0: any free one.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Folder with objects that exist from the start: *.yaml, *.yml, *.json; definitions come first.
    #[arg(long)]
    manifests: Vec<PathBuf>,
    /// Where to write a kubeconfig of an admin.
    #[arg(long)]
    kubeconfig_out: Option<PathBuf>,
    /// Serve with TLS, by an authority that is made for this run and is in the kubeconfig.
    #[arg(long)]
    tls: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let server = ApiServer::new();
    for folder in &args.manifests {
        install(&server, folder)?;
    }
    let socket = TcpListener::bind(args.listen).with_context(|| format!("listening on {}", args.listen))?;
    let listener = if args.tls {
        let address = args.listen.ip().to_string();
        server.listen_tls(socket, &Certificates::make(&[&address, "localhost"])?)?
    } else {
        server.listen(socket)?
    };
    if let Some(path) = &args.kubeconfig_out {
        let text = listener.kubeconfig("admin");
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    // Whoever started this waits for the line.
    println!("serving on {}", listener.url());
    // Until a signal ends the process: there is nothing to put in order.
    loop {
        std::thread::park();
    }
}

/// All documents of a folder at once, so that definitions come before their objects.
fn install(server: &ApiServer, folder: &PathBuf) -> anyhow::Result<()> {
    let reading = || format!("reading {}", folder.display());
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(reading)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(reading)?;
    files.retain(|file| {
        let extension = file.extension().and_then(OsStr::to_str);
        matches!(extension, Some("yaml" | "yml" | "json"))
    });
    files.sort();
    let mut all = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        all.push_str("\n---\n");
        all.push_str(&text);
    }
    server.try_install(&all).with_context(|| format!("objects of {}", folder.display()))
}
