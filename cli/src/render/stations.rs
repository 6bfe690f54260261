//! `show monitoring`: one line a station.

use cambric_api::Station;

use super::{joined, span};
use crate::table::{Column, Table};

pub(super) fn render(stations: &[Station]) -> String {
    if stations.is_empty() {
        return "no stations\n".to_owned();
    }
    let mut table = Table::new(["Station", "Address", "State", "Tables", "Last error"].map(Column::Left));
    for station in stations {
        let state = match station.told_for_s {
            Some(seconds) => format!("told for {}", span(seconds)),
            None => station.state.clone(),
        };
        let error = station.last_error.as_ref();
        let error = error
            .map_or_else(|| "-".to_owned(), |error| format!("{} ({} ago)", error.what, span(error.ago_s)));
        table.row([station.name.clone(), station.address.clone(), state, joined(&station.tables), error]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_whether_it_is_told_and_why_not() {
        let told = Station {
            name: "collector".to_owned(),
            address: "192.0.2.99:11019".to_owned(),
            state: "told".to_owned(),
            told_for_s: Some(63),
            tables: vec!["loc-rib".to_owned()],
            last_error: None,
        };
        let away = Station {
            name: "second".to_owned(),
            state: "waiting".to_owned(),
            told_for_s: None,
            last_error: Some(cambric_api::LastError { ago_s: 5, what: "connection refused".to_owned() }),
            ..told.clone()
        };
        let text = render(&[told, away]);
        assert!(text.contains("told for 1m03s"), "{text}");
        assert!(text.contains("waiting") && text.contains("connection refused (5s ago)"), "{text}");
        assert_eq!(render(&[]), "no stations\n");
    }
}
