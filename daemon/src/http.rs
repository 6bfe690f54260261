//! Health and metrics over HTTP: small answers to whoever asks, at a price that does not depend on who that is.
//!
//! A connection is for one request and ten seconds. When too many are there, the oldest has to go: a probe is answered
//! in a moment, and one that takes its time is no probe. Always on 127.0.0.1, so that a probe of the kubelet finds the
//! process whatever is known of the node; on the node's address, too, if that is wanted, as soon as it is known.

mod connections;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{Args, HttpAddress};
use crate::health::{self, Pulse};
use crate::metrics::{self, Metrics};
use crate::objects::Problem;
use crate::state::{Shared, State};

/// How soon an address that cannot be listened on is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Where problems are.
const PLACE: &str = "health and metrics";

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Of `/healthz` and `/readyz`; 0: none.
    pub health_port: u16,
    /// Of `/metrics`; 0: none.
    pub metrics_port: u16,
    /// On which addresses.
    pub address: HttpAddress,
}

impl From<&Args> for Settings {
    fn from(args: &Args) -> Settings {
        Settings {
            health_port: args.health_port,
            metrics_port: args.metrics_port,
            address: args.http_address,
        }
    }
}

impl Settings {
    /// What is served where, while the node has these addresses.
    fn wanted(&self, node: &[IpAddr]) -> BTreeMap<SocketAddr, BTreeSet<Page>> {
        let of_node = node.iter().copied().filter(|_| self.address == HttpAddress::Node);
        let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST)].into_iter().chain(of_node);
        let mut wanted: BTreeMap<SocketAddr, BTreeSet<Page>> = BTreeMap::new();
        for address in addresses {
            for (port, page) in [(self.health_port, Page::Health), (self.metrics_port, Page::Metrics)] {
                if port != 0 {
                    wanted.entry(SocketAddr::new(address, port)).or_default().insert(page);
                }
            }
        }
        wanted
    }
}

/// What can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Page {
    /// `/healthz` and `/readyz`
    Health,
    /// `/metrics`
    Metrics,
}

/// What is served where, and what is in the way of more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http {
    /// `/healthz` and `/readyz`
    pub health: Vec<SocketAddr>,
    /// `/metrics`
    pub metrics: Vec<SocketAddr>,
    /// What the operator should mend.
    pub problems: Vec<Problem>,
}

/// Listens, and tries again where that is not possible. Ends with the main loop.
pub fn start(settings: Settings, shared: Shared, pulse: Pulse, told: watch::Sender<Http>) {
    let state = shared.state.clone();
    let pages = Pages { metrics: metrics::start(shared.clone()), shared, pulse };
    let keeper = Keeper { settings, state, pages, listening: BTreeMap::new(), told };
    tokio::spawn(keeper.run());
}

struct Keeper {
    settings: Settings,
    state: watch::Receiver<State>,
    pages: Pages,
    listening: BTreeMap<SocketAddr, Listening>,
    told: watch::Sender<Http>,
}

/// Ends with this.
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut retry = interval(RETRY_INTERVAL);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut addresses = Vec::new();
        loop {
            // Both are cancel-safe.
            tokio::select! {
                _ = retry.tick() => {}
                changed = self.state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = node_addresses(&self.state.borrow_and_update());
                    if std::mem::replace(&mut addresses, now.clone()) == now {
                        continue;
                    }
                }
            }
            self.listen(&addresses).await;
        }
    }

    async fn listen(&mut self, node: &[IpAddr]) {
        let wanted = self.settings.wanted(node);
        self.listening.retain(|address, task| wanted.contains_key(address) && !task.0.is_finished());
        let mut problems = Vec::new();
        for (address, pages) in &wanted {
            if self.listening.contains_key(address) {
                continue;
            }
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    tracing::info!(address = %address, pages = ?pages, "health and metrics are served");
                    let served = connections::serve(listener, self.pages.clone(), pages.clone());
                    self.listening.insert(*address, Listening(tokio::spawn(served)));
                }
                Err(error) => {
                    let flags = pages.iter().map(|page| page.flag()).collect::<Vec<_>>().join(", ");
                    let what = format!("{flags}: {address} cannot be listened on: {error}; tried again");
                    problems.push(Problem::new(PLACE, what));
                }
            }
        }
        let serve = |page: Page| {
            let serves =
                |address: &&SocketAddr| wanted.get(address).is_some_and(|pages| pages.contains(&page));
            self.listening.keys().filter(serves).copied().collect()
        };
        let now = Http { health: serve(Page::Health), metrics: serve(Page::Metrics), problems };
        self.told.send_if_modified(|told| {
            let is_new = *told != now;
            *told = now;
            is_new
        });
    }
}

impl Page {
    fn flag(self) -> &'static str {
        match self {
            Page::Health => "--health-port",
            Page::Metrics => "--metrics-port",
        }
    }
}

fn node_addresses(state: &State) -> Vec<IpAddr> {
    state.intent.iter().flat_map(|intent| intent.node_addresses.values().copied()).collect()
}

/// What there is to read.
#[derive(Debug, Clone)]
struct Pages {
    shared: Shared,
    pulse: Pulse,
    metrics: Metrics,
}

impl Pages {
    async fn answer(&self, served: &BTreeSet<Page>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let page = match request.uri().path() {
            "/healthz" | "/readyz" => Page::Health,
            "/metrics" => Page::Metrics,
            _ => return text(StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n".to_owned()),
        };
        if !served.contains(&page) {
            return text(StatusCode::NOT_FOUND, format!("served on another port ({})\n", page.flag()));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "there is only GET and HEAD\n".to_owned());
        }
        match request.uri().path() {
            "/healthz" => health(self.pulse.verdict()),
            "/readyz" => health(ready(&health::missing(&self.shared))),
            _ => match self.metrics.text().await {
                Some(text) => page_of(StatusCode::OK, metrics::CONTENT_TYPE, text),
                None => text(StatusCode::SERVICE_UNAVAILABLE, "too many ask at once\n".to_owned()),
            },
        }
    }
}

fn ready(missing: &[String]) -> Result<(), String> {
    if missing.is_empty() { Ok(()) } else { Err(format!("it misses:\n{}", missing.join("\n"))) }
}

fn health(verdict: Result<(), String>) -> Response<Full<Bytes>> {
    match verdict {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    page_of(status, "text/plain; charset=utf-8", text.into())
}

fn page_of(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_serves_both_and_port_0_nothing() {
        let wanted = |health_port, metrics_port, address| -> Vec<(String, Vec<Page>)> {
            let settings = Settings { health_port, metrics_port, address };
            let wanted = settings.wanted(&["192.0.2.1".parse().expect("address")]);
            let pages = |pages: BTreeSet<Page>| pages.into_iter().collect();
            wanted.into_iter().map(|(address, served)| (address.to_string(), pages(served))).collect()
        };
        let local = |port: u16, pages: &[Page]| (format!("127.0.0.1:{port}"), pages.to_vec());
        let expected = vec![local(1, &[Page::Health]), local(2, &[Page::Metrics])];
        assert_eq!(expected, wanted(1, 2, HttpAddress::Localhost));
        assert_eq!(vec![local(1, &[Page::Health, Page::Metrics])], wanted(1, 1, HttpAddress::Localhost));
        assert_eq!(vec![local(2, &[Page::Metrics])], wanted(0, 2, HttpAddress::Localhost));
        let on_node = ("192.0.2.1:2".to_owned(), vec![Page::Metrics]);
        assert_eq!(vec![local(2, &[Page::Metrics]), on_node], wanted(0, 2, HttpAddress::Node));
        assert_eq!(Vec::<(String, Vec<Page>)>::new(), wanted(0, 0, HttpAddress::Node));
    }
}
