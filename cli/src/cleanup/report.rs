//! What was done, thing by thing: told as it is done, or at the end as one JSON document.

use std::fmt::Display;
use std::io::{self, IsTerminal};

use serde::Serialize;

use crate::render::{self, Layout};
use crate::session::{self, Outcome, Output};

/// What is done with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Remove,
    PutBack,
}

/// What became of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Became {
    Removed,
    PutBack,
    WouldBeRemoved,
    WouldBePutBack,
    /// It is not ours, or not any more.
    Left,
    Failed,
}

#[derive(Debug, Serialize)]
struct Step {
    what: String,
    outcome: Became,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    dry_run: bool,
    /// Why nothing was touched, or would be.
    refused: Vec<String>,
    steps: Vec<Step>,
    #[serde(skip)]
    output: Output,
}

impl Report {
    pub(super) fn new(output: Output, dry_run: bool) -> Report {
        Report { dry_run, refused: Vec::new(), steps: Vec::new(), output }
    }

    pub(super) fn is_dry(&self) -> bool {
        self.dry_run
    }

    /// Does it, unless it is only asked what would be done. False if it failed.
    pub(super) fn act<E: Display>(
        &mut self,
        verb: Verb,
        what: impl Display,
        action: impl FnOnce() -> Result<(), E>,
    ) -> bool {
        let became = match (verb, self.dry_run) {
            (Verb::Remove, false) => Became::Removed,
            (Verb::PutBack, false) => Became::PutBack,
            (Verb::Remove, true) => Became::WouldBeRemoved,
            (Verb::PutBack, true) => Became::WouldBePutBack,
        };
        if !self.dry_run
            && let Err(why) = action()
        {
            self.fail(verb, what, why);
            return false;
        }
        self.tell(format_args!("{} {what}", words(became)));
        self.steps.push(Step { what: what.to_string(), outcome: became, why: None });
        true
    }

    pub(super) fn fail(&mut self, verb: Verb, what: impl Display, why: impl Display) {
        let doing = match verb {
            Verb::Remove => "remove",
            Verb::PutBack => "put back",
        };
        session::complain(format_args!("cannot {doing} {what}: {why}"), Outcome::Failed);
        self.push(what, Became::Failed, why);
    }

    pub(super) fn leave(&mut self, what: impl Display, why: impl Display) {
        self.tell(format_args!("{} {what}: {why}", words(Became::Left)));
        self.push(what, Became::Left, why);
    }

    pub(super) fn refuse(&mut self, why: &str) {
        session::complain(why, Outcome::Failed);
        self.refused.push(why.to_owned());
    }

    /// Says what it came to.
    pub(super) fn finish(self) -> Outcome {
        match self.output {
            Output::Json => {
                let layout = Layout::for_terminal(io::stdout().is_terminal());
                session::print(&render::json(&self, layout));
            }
            Output::Text => self.tell(self.in_short()),
        }
        let is_good = self.refused.is_empty() && self.count(Became::Failed) == 0;
        if is_good { Outcome::Done } else { Outcome::Failed }
    }

    fn in_short(&self) -> String {
        if !self.refused.is_empty() && !self.dry_run {
            return "nothing was touched".to_owned();
        }
        if self.steps.iter().all(|step| step.outcome == Became::Left) {
            return "nothing of Cambric's is on this node".to_owned();
        }
        let counted = |(became, words): (Became, &str)| match self.count(became) {
            0 => None,
            count => Some(format!("{count} {words}")),
        };
        let counts = [
            (Became::Removed, "removed"),
            (Became::PutBack, "put back"),
            (Became::WouldBeRemoved, "to remove"),
            (Became::WouldBePutBack, "to put back"),
            (Became::Left, "left"),
            (Became::Failed, "failed"),
        ];
        let counts = counts.into_iter().filter_map(counted).collect::<Vec<_>>().join(", ");
        if self.dry_run { format!("{counts}; nothing was changed") } else { counts }
    }

    fn count(&self, became: Became) -> usize {
        self.steps.iter().filter(|step| step.outcome == became).count()
    }

    fn push(&mut self, what: impl Display, outcome: Became, why: impl Display) {
        self.steps.push(Step { what: what.to_string(), outcome, why: Some(why.to_string()) });
    }

    /// Who does not read on does not stop it.
    fn tell(&self, line: impl Display) {
        if self.output == Output::Text {
            session::tell(&line.to_string());
        }
    }
}

fn words(became: Became) -> &'static str {
    match became {
        Became::Removed => "removed",
        Became::PutBack => "put back",
        Became::WouldBeRemoved => "would remove",
        Became::WouldBePutBack => "would put back",
        Became::Left => "left",
        Became::Failed => "cannot remove",
    }
}
