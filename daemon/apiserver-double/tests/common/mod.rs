//! Requests of tests that write, through the service within the process or through a socket.

use std::net::TcpListener;

use cambric_apiserver_double::{ApiServer, Listener, User};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    /// The body, of what must have worked.
    pub(crate) fn ok(self) -> Value {
        assert!(self.code < 300, "{self:?}");
        self.body
    }
}

/// One server and a way to it.
pub(crate) struct Rig {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    _listener: Option<Listener>,
}

impl Rig {
    /// Without sockets.
    pub(crate) fn in_process() -> Rig {
        let server = ApiServer::new();
        let client = server.client();
        Rig { server, client, _listener: None }
    }

    /// The same server, for somebody else.
    pub(crate) fn of(&self, user: User) -> Rig {
        Rig { server: self.server.clone(), client: self.server.client_of(user), _listener: None }
    }

    /// Over TCP.
    pub(crate) async fn over_tcp() -> Rig {
        let server = ApiServer::new();
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listener = server.listen(socket).expect("it listens");
        let kubeconfig = Kubeconfig::from_yaml(&listener.kubeconfig("admin")).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a configuration")).expect("a client");
        Rig { server, client, _listener: Some(listener) }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("user-agent", "tester/1.0")
            .body(Body::from(body))
            .expect("a request");
        let response = self.client.send(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let octets = body.collect().await.expect("a body").to_bytes();
        let warnings = parts.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok());
        Answer {
            code: parts.status.as_u16(),
            warnings: warnings.map(str::to_owned).collect(),
            body: serde_json::from_slice(&octets).unwrap_or_default(),
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "application/json", body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask("PUT", path, "application/json", body).await
    }

    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.ask("PATCH", path, "application/merge-patch+json", body).await
    }

    pub(crate) async fn strategic(&self, path: &str, body: &Value) -> Answer {
        self.ask("PATCH", path, "application/strategic-merge-patch+json", body).await
    }

    pub(crate) async fn apply(&self, path: &str, manager: &str, body: &Value) -> Answer {
        self.ask("PATCH", &format!("{path}?fieldManager={manager}"), "application/apply-patch+yaml", body)
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "application/json", &Value::Null).await
    }

    pub(crate) async fn delete(&self, path: &str, body: &Value) -> Answer {
        self.ask("DELETE", path, "application/json", body).await
    }
}
