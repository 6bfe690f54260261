//! Which interfaces owe a route to router advertisements.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use anyhow::Context;
use cambric_routes::{LinkIndex, LinkTable};
use futures::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAttribute, RouteProtocol};

/// Names of the interfaces with a route of protocol `ra`.
///
/// # Errors
/// The kernel does not list its routes.
pub async fn interfaces(links: &LinkTable) -> anyhow::Result<Vec<String>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("opening a netlink socket")?;
    let connection = tokio::spawn(connection);
    let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut routes = handle.route().get(all).execute();
    let mut indexes = BTreeSet::new();
    while let Some(route) = routes.try_next().await.context("listing IPv6 routes")? {
        if route.header.protocol == RouteProtocol::Ra {
            indexes.extend(route.attributes.iter().filter_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            }));
        }
    }
    connection.abort();
    let name = |index: u32| links.get(LinkIndex(index)).map(|link| link.name.clone());
    Ok(indexes.into_iter().filter_map(name).collect())
}
