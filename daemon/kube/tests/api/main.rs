//! What is known of a cluster while its API server does all that API servers do: against the double, without sockets
//! where time is virtual, and over them where connections are what it is about.

mod outages;
mod services;
mod snapshot;
mod sockets;
mod start;
mod support;
