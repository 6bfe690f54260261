//! An HTTP/1.1 client that shows every octet: RFC 9112 over a plain socket, with nothing that retries or hides an end.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cambric_apiserver_double::{ApiServer, Listener};
use serde_json::{Value, json};

/// Longer than anything should take.
const LONG: Duration = Duration::from_secs(30);

/// A server on a socket, and the server.
pub(crate) fn listening() -> (ApiServer, Listener) {
    let server = ApiServer::new();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listener = server.listen(socket).expect("it listens");
    (server, listener)
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Asks, and reads the answer to its end.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    get_with(address, path, "")
}

/// The same with more header lines, each with its line end.
pub(crate) fn get_with(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut stream = Stream::open(address, path, headers);
    let mut body = String::new();
    let end = loop {
        match stream.piece(LONG) {
            Piece::Octets(octets) => body.push_str(&String::from_utf8(octets).expect("the body is text")),
            Piece::End(end) => break end,
            Piece::Nothing => panic!("the answer does not end: {body}"),
        }
    };
    assert_eq!(end, End::Whole);
    Answer { status: stream.status, headers: stream.headers, body }
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With the last chunk, or after as many octets as were announced.
    Whole,
    /// The connection ended before.
    Cut,
}

pub(crate) enum Piece {
    Octets(Vec<u8>),
    End(End),
    /// Not within the time.
    Nothing,
}

/// What a watch shows.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    Event(Value),
    /// The rest of the last line, which is no whole event unless it is empty.
    End(End, String),
    Nothing,
}

/// An answer that is read as it comes.
pub(crate) struct Stream {
    reader: BufReader<TcpStream>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Octets that are left if their number was announced; `None`: chunks.
    left: Option<usize>,
    text: Vec<u8>,
    end: Option<End>,
}

impl Stream {
    pub(crate) fn open(address: SocketAddr, path: &str, headers: &str) -> Stream {
        let mut socket = TcpStream::connect(address).expect("it accepts");
        socket.set_read_timeout(Some(LONG)).expect("a socket");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: raw\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut reader = BufReader::new(socket);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a head");
            line.trim_end().to_owned()
        };
        let status = line();
        let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).expect("a status line");
        let status = status.parse().expect("a number");
        let mut headers = Vec::new();
        loop {
            let header = line();
            let Some((name, value)) = header.split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let left = headers.iter().find(|(name, _)| name == "content-length");
        let left = left.map(|(_, value)| value.parse().expect("a number"));
        Stream { reader, status, headers, left, text: Vec::new(), end: None }
    }

    /// Opens a watch, which is answered with 200.
    pub(crate) fn watch(address: SocketAddr, path: &str) -> Stream {
        let stream = Stream::open(address, path, "");
        assert_eq!(stream.status, 200);
        let chunked = ("transfer-encoding".to_owned(), "chunked".to_owned());
        assert!(stream.headers.contains(&chunked), "{:?}", stream.headers);
        stream
    }

    /// Octets as they were chunked.
    pub(crate) fn piece(&mut self, limit: Duration) -> Piece {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return Piece::End(End::Whole);
            }
            let mut octets = vec![0; *left];
            *left = 0;
            return match self.reader.read_exact(&mut octets) {
                Ok(()) => Piece::Octets(octets),
                Err(_) => Piece::End(End::Cut),
            };
        }
        self.reader.get_ref().set_read_timeout(Some(limit)).expect("a socket");
        let mut size = String::new();
        match self.reader.read_line(&mut size) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                assert!(size.is_empty(), "the limit was too short for half a line");
                return Piece::Nothing;
            }
            Err(_) | Ok(0) => return Piece::End(End::Cut),
            Ok(_) => {}
        }
        self.reader.get_ref().set_read_timeout(Some(LONG)).expect("a socket");
        let Ok(size) = usize::from_str_radix(size.trim_end(), 16) else { return Piece::End(End::Cut) };
        let mut octets = vec![0; size + 2];
        if self.reader.read_exact(&mut octets).is_err() {
            return Piece::End(End::Cut);
        }
        assert_eq!(octets.split_off(size), b"\r\n");
        if size == 0 { Piece::End(End::Whole) } else { Piece::Octets(octets) }
    }

    /// The next line of a watch.
    pub(crate) fn line(&mut self) -> Line {
        self.line_within(LONG)
    }

    /// The next line, if it comes within the time.
    pub(crate) fn line_within(&mut self, limit: Duration) -> Line {
        loop {
            if let Some(at) = self.text.iter().position(|&octet| octet == b'\n') {
                let rest = self.text.split_off(at + 1);
                let line = std::mem::replace(&mut self.text, rest);
                return Line::Event(serde_json::from_slice(&line).expect("a whole line is JSON"));
            }
            if let Some(end) = self.end {
                return Line::End(end, String::from_utf8_lossy(&self.text).into_owned());
            }
            match self.piece(limit) {
                Piece::Octets(octets) => self.text.extend(octets),
                Piece::End(end) => self.end = Some(end),
                Piece::Nothing => return Line::Nothing,
            }
        }
    }

    /// The next event as `TYPE name version`.
    pub(crate) fn told(&mut self) -> String {
        match self.line() {
            Line::Event(event) => told(&event),
            other => panic!("no event but {other:?}"),
        }
    }

    /// There is no event for a while: as long as another resource's takes to arrive many times over.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.line_within(Duration::from_millis(300)) == Line::Nothing
    }
}

/// `TYPE name version`.
pub(crate) fn told(event: &Value) -> String {
    let metadata = &event["object"]["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or("-");
    format!("{} {} {}", event["type"].as_str().unwrap_or("-"), text("name"), text("resourceVersion"))
}

pub(crate) fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": node}, "status": {"phase": "Running"}})
}

/// `metadata.resourceVersion`.
pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("a version")
}

/// A kind of ours, without a schema.
pub(crate) const THINGS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  scope: Cluster
  names: {kind: Thing, plural: things, singular: thing, listKind: ThingList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
