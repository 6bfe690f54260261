//! A daemon that is played: it knows two peers and a link, answers whoever comes, and notes what was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use cambric_api::{
    Action, Body, Interface, Outcome, PolicyPod, PolicyTable, Protocol, Reply, Request, Route, RouteCount,
    Status,
};

pub(crate) struct Played {
    heard: Arc<Mutex<Heard>>,
    accepting: Option<JoinHandle<()>>,
    socket: std::path::PathBuf,
}

#[derive(Default)]
struct Heard {
    requests: Vec<Request>,
    clients: Vec<UnixStream>,
    has_ended: bool,
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Played {
    /// `run` is what tells this daemon from the one before it.
    pub(crate) fn start(socket: &Path, run: &'static str) -> Played {
        // As cambricd does, it takes the place of the socket of one that is gone.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).expect("a socket");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let shared = Arc::clone(&heard);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a client");
                let mut heard = lock(&shared);
                if heard.has_ended {
                    return;
                }
                heard.clients.push(stream.try_clone().expect("a second handle"));
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, run, &shared));
            }
        });
        Played { heard, accepting: Some(accepting), socket: socket.to_owned() }
    }

    /// What was asked, greetings and completions among it.
    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.heard).requests.clone()
    }

    /// As after half a minute of silence.
    pub(crate) fn hang_up(&self) {
        for client in lock(&self.heard).clients.drain(..) {
            client.shutdown(Shutdown::Both).expect("its socket");
        }
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        lock(&self.heard).has_ended = true;
        self.hang_up();
        let _ = UnixStream::connect(&self.socket);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the accepting thread");
        }
    }
}

fn serve(stream: UnixStream, run: &str, heard: &Mutex<Heard>) {
    let mut writer = stream.try_clone().expect("a second handle");
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let request: Request = serde_json::from_str(&line).expect("a request");
        lock(heard).requests.push(request.clone());
        if matches!(request, Request::ShowRouteRefused { .. }) {
            // It lets who asks this wait.
            continue;
        }
        for reply in answer(request, run) {
            let mut text = serde_json::to_vec(&reply).expect("a reply");
            text.push(b'\n');
            if writer.write_all(&text).is_err() {
                return;
            }
        }
    }
}

fn answer(request: Request, run: &str) -> Vec<Reply> {
    let piece = |prefix: &str| {
        let path = cambric_api::Path { verdict: "best".to_owned(), ..Default::default() };
        Reply::routes(vec![Route { prefix: prefix.to_owned(), paths: vec![path] }])
    };
    match request {
        Request::ShowStatus => vec![Reply::status(Status {
            version: "0.1.0".to_owned(),
            node: "node1".to_owned(),
            run: run.to_owned(),
            ..Status::default()
        })],
        Request::ShowProtocols { peer: Some(peer) } if peer == "nobody" => {
            vec![Reply::no_such("peer", &peer, &["tor1a".to_owned(), "tor1b".to_owned()])]
        }
        Request::ShowProtocols { .. } => {
            let peer = |name: &str| Protocol { name: name.to_owned(), ..Protocol::default() };
            vec![Reply::protocols(vec![peer("tor1a"), peer("tor1b"), peer("bad\x1b[31m"), peer("two words")])]
        }
        Request::ShowInterfaces { .. } => {
            vec![Reply::interfaces(vec![Interface { name: "eth1".to_owned(), ..Interface::default() }])]
        }
        Request::ShowPolicy { .. } => {
            let pod = |name: Option<&str>| PolicyPod {
                pod: name.map(str::to_owned),
                interface: "cam0123456789ab".to_owned(),
                ..PolicyPod::default()
            };
            let pods = vec![pod(Some("default/web-0")), pod(None)];
            vec![Reply::policy(PolicyTable { pods, ..PolicyTable::default() })]
        }
        Request::ShowRouteCount => vec![Reply::route_counts(vec![RouteCount {
            family: "ipv4".to_owned(),
            prefixes: 4711,
            ..RouteCount::default()
        }])],
        Request::ShowRoute { .. } => {
            vec![Reply { more: true, ..piece("10.244.1.0/24") }, piece("10.244.2.0/24")]
        }
        Request::Disable { peer } => {
            let action = Action { peer, address: "10.0.1.1".to_owned(), outcome: Outcome::Disabled };
            vec![Reply::actions(vec![action])]
        }
        _ => vec![Reply { body: Body::Error("it is only played".to_owned()), ..Reply::unavailable("") }],
    }
}
