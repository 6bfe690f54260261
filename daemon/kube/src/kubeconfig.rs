//! The configuration of the client: a kubeconfig file, or the service account of the pod this runs in.
//!
//! Whatever is wrong is said with file and field. The files are looked at again and again: one that is written anew, or
//! a certificate or a token that is renewed beside it, makes another client, which watches anew and lists nothing. kube
//! would read a token again after a minute, but by the time of day: not for as long as that was set back.

use std::error::Error as _;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::{InClusterError, Kubeconfig, KubeconfigError, LoadDataError};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// Longest time to a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch may be silent for minutes while its server is gone without a word, with a firewall on the way that has
/// forgotten it, or with its machine. After so long the kernel asks (tcp(7), TCP_KEEPIDLE),
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// and so often again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A connection on which nothing was acknowledged for so long is gone, the kernel's own questions among it (tcp(7),
/// TCP_USER_TIMEOUT): a silent one after 35 s.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Of a connection, in octets. By itself it grows to 400 KiB with a list and stays so for the watch, in a dozen of them.
const BUFFER: usize = 16 << 10;
/// The namespace of the daemon, where a context does not say it.
const NAMESPACE: &str = "cambric-system";
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A client, and where what it needs is written.
#[derive(Clone)]
pub(crate) struct Configured {
    pub(crate) client: Client,
    /// As `https://192.0.2.1:6443`.
    pub(crate) server: String,
    pub(crate) fields: Fields,
}

/// Which field of which file says what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    pub(crate) server: String,
    pub(crate) authority: String,
    pub(crate) user: String,
}

/// The files a configuration is made of, and what was in them. Not when they were written: kubelet writes all of a volume
/// anew when a token of it is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Length and hash. Nothing secret is kept for it.
type Stamp = (usize, u64);

impl Stamps {
    fn of(paths: impl IntoIterator<Item = PathBuf>) -> Stamps {
        Stamps(paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Whether all of them are as they were.
    pub(crate) fn are_current(&self) -> bool {
        self.0.iter().all(|(path, was)| stamp(path) == *was)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let content = fs::read(path).ok()?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&content);
    Some((content.len(), hasher.finish()))
}

/// Reads the configuration: `None` for the service account. Blocks on the disk; within a runtime.
pub(crate) fn read(path: Option<&Path>) -> (Result<Configured, String>, Stamps) {
    match path {
        Some(path) => of_file(path),
        None => of_service_account(),
    }
}

fn of_file(path: &Path) -> (Result<Configured, String>, Stamps) {
    let place = |what: String| format!("{}: {what}", path.display());
    // Before it is read: what is written meanwhile is another state.
    let own = Stamps::of([path.to_owned()]);
    let kubeconfig = match Kubeconfig::read_from(path) {
        Ok(kubeconfig) => kubeconfig,
        Err(KubeconfigError::ReadConfig(error, _)) => {
            return (Err(place(format!("cannot be read: {error}"))), own);
        }
        Err(error) => {
            // The lines after it show the place.
            let what = error.to_string();
            let what = what.lines().next().unwrap_or_default();
            return (Err(place(format!("is no kubeconfig: {what}"))), own);
        }
    };
    let named = Named::of(&kubeconfig);
    let stamps = match &named {
        Ok(named) => {
            let mut all = own;
            all.0.extend(Stamps::of(named.files(&kubeconfig)).0);
            all
        }
        Err(_) => own,
    };
    let configured = named.and_then(|named| named.configured(path, kubeconfig));
    (configured.map_err(place), stamps)
}

/// The names that the current context leads to.
struct Named {
    context: String,
    cluster: String,
    user: Option<String>,
}

impl Named {
    fn of(kubeconfig: &Kubeconfig) -> Result<Named, String> {
        let context = kubeconfig.current_context.clone().filter(|name| !name.is_empty());
        let context = context.ok_or("current-context: not set")?;
        let found = kubeconfig.contexts.iter().find(|named| named.name == context);
        let found = found.and_then(|named| named.context.as_ref());
        let found = found.ok_or_else(|| format!("current-context: {context:?} is none of contexts"))?;
        let (cluster, user) = (found.cluster.clone(), found.user.clone().filter(|user| !user.is_empty()));
        if !kubeconfig.clusters.iter().any(|named| named.name == cluster && named.cluster.is_some()) {
            return Err(format!("contexts[{context}].context.cluster: {cluster:?} is none of clusters"));
        }
        if let Some(user) = &user
            && !kubeconfig.auth_infos.iter().any(|named| named.name == *user && named.auth_info.is_some())
        {
            return Err(format!("contexts[{context}].context.user: {user:?} is none of users"));
        }
        Ok(Named { context, cluster, user })
    }

    /// What the configuration is made of beside itself.
    fn files(&self, kubeconfig: &Kubeconfig) -> Vec<PathBuf> {
        let clusters = kubeconfig.clusters.iter().filter(|named| named.name == self.cluster);
        let authority = clusters.filter_map(|named| named.cluster.as_ref()?.certificate_authority.clone());
        let users = kubeconfig.auth_infos.iter().filter(|named| Some(&named.name) == self.user.as_ref());
        let users = users.filter_map(|named| named.auth_info.as_ref());
        let of_user = users.flat_map(|user| {
            [user.client_certificate.clone(), user.client_key.clone(), user.token_file.clone()]
        });
        authority.chain(of_user.flatten()).map(PathBuf::from).collect()
    }

    fn configured(&self, path: &Path, mut kubeconfig: Kubeconfig) -> Result<Configured, String> {
        let cluster = format!("clusters[{}].cluster", self.cluster);
        let own = kubeconfig.clusters.iter_mut().find(|named| named.name == self.cluster);
        if let Some(own) = own.and_then(|named| named.cluster.as_mut()) {
            if own.proxy_url.as_ref().is_some_and(|url| !url.is_empty()) {
                return Err(format!("{cluster}.proxy-url: a proxy is not supported: remove the field"));
            }
            // Or else kube reads HTTPS_PROXY, which may be no URL. `client` looks at neither: a node reaches its API server
            // by its own routes.
            own.proxy_url = Some("http://not-used.invalid".to_owned());
        }
        let contexts = kubeconfig.contexts.iter_mut().filter(|named| named.name == self.context);
        for context in contexts.filter_map(|named| named.context.as_mut()) {
            context.namespace.get_or_insert_with(|| NAMESPACE.to_owned());
        }
        let user = format!("users[{}].user", self.user.as_deref().unwrap_or_default());
        let config = Config::try_from(kubeconfig).map_err(|error| match error {
            KubeconfigError::MissingClusterUrl => format!("{cluster}.server: not set"),
            KubeconfigError::ParseClusterUrl(error) => format!("{cluster}.server: no URL: {error}"),
            KubeconfigError::LoadCertificateAuthority(error) => {
                format!("{cluster}.certificate-authority{}", of_data(&error))
            }
            KubeconfigError::ParseCertificates(error) => {
                format!("{cluster}.certificate-authority: no certificates in PEM: {error}")
            }
            other => format!("context {}: {other}", self.context),
        })?;
        if !matches!(config.cluster_url.scheme_str(), Some("http" | "https"))
            || config.cluster_url.host().is_none()
        {
            return Err(format!(
                "{cluster}.server: {:?} is no URL as https://HOST:PORT",
                shown(&config.cluster_url)
            ));
        }
        if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("{cluster}.certificate-authority: there is no certificate in it"));
        }
        let place = |field: String| format!("{}: {field}", path.display());
        let fields = Fields {
            server: place(format!("{cluster}.server")),
            authority: place(format!("{cluster}.certificate-authority")),
            user: place(user.clone()),
        };
        client(config, fields).map_err(|error| of_client(&user, &error))
    }
}

/// Names the rest of a field that holds data or the name of a file.
fn of_data(error: &LoadDataError) -> String {
    match error {
        LoadDataError::DecodeBase64(error) => format!("-data: not in base64: {error}"),
        LoadDataError::ReadFile(error, path) => format!(": {}: cannot be read: {error}", path.display()),
        LoadDataError::NoBase64DataOrFile => ": not set".to_owned(),
    }
}

/// What is wrong with what a client is made of: all of it is the user's but for the certificate authority.
fn of_client(user: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::InferKubeconfig(KubeconfigError::LoadClientCertificate(error)) => {
            format!("{user}.client-certificate{}", of_data(error))
        }
        kube::Error::InferKubeconfig(KubeconfigError::LoadClientKey(error)) => {
            format!("{user}.client-key{}", of_data(error))
        }
        error => format!("{user}: {}", chain(error)),
    }
}

fn of_service_account() -> (Result<Configured, String>, Stamps) {
    let stamps =
        Stamps::of(["ca.crt", "namespace", "token"].map(|name| Path::new(SERVICE_ACCOUNT).join(name)));
    let config = Config::incluster().map_err(|error| match error {
        InClusterError::ReadEnvironmentVariable(_) => {
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is not in a pod; name a kubeconfig \
             by --kubeconfig"
                .to_owned()
        }
        InClusterError::ReadCertificateBundle(error) => format!("{SERVICE_ACCOUNT}/ca.crt: cannot be read: {error}"),
        InClusterError::ParseCertificates(error) => format!("{SERVICE_ACCOUNT}/ca.crt: no certificates in PEM: {error}"),
        InClusterError::ReadDefaultNamespace(error) => format!("{SERVICE_ACCOUNT}/namespace: cannot be read: {error}"),
        error => format!("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT: {error}"),
    });
    let fields = Fields {
        server: "KUBERNETES_SERVICE_HOST".to_owned(),
        authority: format!("{SERVICE_ACCOUNT}/ca.crt"),
        user: format!("{SERVICE_ACCOUNT}/token"),
    };
    let configured = config.and_then(|config| {
        client(config, fields).map_err(|error| format!("service account: {}", chain(&error)))
    });
    (configured, stamps)
}

fn client(config: Config, fields: Fields) -> Result<Configured, kube::Error> {
    let server = shown(&config.cluster_url);
    // How long to wait for an answer is for who asks; what is tried again is tried again there, too.
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let http = legacy::Client::builder(TokioExecutor::new()).http1_max_buf_size(BUFFER).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Configured { client: Client::new(service, config.default_namespace), server, fields })
}

/// A URL without the user and the password that it may hold.
fn shown(url: &http::Uri) -> String {
    let text = url.to_string();
    let text = text.trim_end_matches('/');
    match url.authority().and_then(|authority| authority.as_str().rsplit_once('@')) {
        Some((credentials, _)) => text.replacen(&format!("{credentials}@"), "", 1),
        None => text.to_owned(),
    }
}

/// An error with all that it is from, each said once.
pub(crate) fn chain(error: &kube::Error) -> String {
    // The outermost text is kube's name of a class of errors.
    let mut next = error.source().or(Some(error as &dyn std::error::Error));
    let mut words: Vec<String> = Vec::new();
    while let Some(error) = next {
        let text = error.to_string();
        if !words.iter().any(|said| said.contains(&text)) {
            words.retain(|said| !text.contains(said.as_str()));
            words.push(text);
        }
        next = error.source();
    }
    words.join(": ")
}

impl Configured {
    /// What is wrong with a connection, with the field that leads to it.
    pub(crate) fn explain(&self, error: &kube::Error) -> String {
        let Configured { server, fields, .. } = self;
        let what = chain(error);
        if what.contains("invalid peer certificate") {
            // Authorities of two clusters have one name as often as not: `kubernetes`.
            let why = match what.contains("UnknownIssuer") || what.contains("BadSignature") {
                true => format!("is not of the authority in {}", fields.authority),
                false => format!("is not one for this host now (name, time and clock; {})", fields.server),
            };
            return format!("{server}: {what}: the server's certificate {why}");
        }
        if what.contains("received fatal alert") {
            return format!("{server}: {what}: the server does not take the certificate of {}", fields.user);
        }
        if matches!(error, kube::Error::Auth(_)) {
            return format!("{}: {what}", fields.user);
        }
        match fields.server.is_empty() {
            true => what,
            false => format!("{server} ({}): {what}", fields.server),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_written_anew_with_the_same_content_are_the_same() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (path, aside) = (folder.path().join("ca.crt"), folder.path().join("new"));
        fs::write(&path, "one").expect("own folder");
        let stamps = Stamps::of([path.clone()]);
        for (content, is_current) in [("one", true), ("two", false)] {
            fs::write(&aside, content).expect("own folder");
            fs::rename(&aside, &path).expect("own folder");
            assert_eq!(stamps.are_current(), is_current, "{content}");
        }
        fs::remove_file(&path).expect("own folder");
        assert!(!stamps.are_current());
    }

    #[test]
    fn credentials_in_a_url_are_not_shown() {
        for (url, wanted) in [
            ("https://admin:secret@192.0.2.1:6443/", "https://192.0.2.1:6443"),
            ("https://192.0.2.1:6443", "https://192.0.2.1:6443"),
            ("https://[2001:db8::1]:6443/a", "https://[2001:db8::1]:6443/a"),
        ] {
            assert_eq!(shown(&url.parse().expect("a URL")), wanted);
        }
    }
}
