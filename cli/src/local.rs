//! What is done on this node itself, without asking the daemon: words of the command line, never of the prompt.

use clap::Subcommand;

use crate::cleanup::{self, Cleanup};
use crate::install::{self, Install};
use crate::session::{self, Next, Outcome, Output};

/// One of these, with its options.
#[derive(Debug, Subcommand)]
pub(crate) enum Local {
    /// Puts the CNI plugin where the container runtime looks for it.
    Install(Install),
    /// Removes everything of Cambric's from this node, and nothing else.
    Cleanup(Cleanup),
}

impl Local {
    /// Prints a line for each thing that was done or left.
    pub(crate) fn run(self, output: Output) -> Outcome {
        match self {
            Local::Cleanup(wish) => cleanup::cleanup(&wish, output),
            Local::Install(wish) => match install::install(&wish) {
                Ok(lines) => outcome_of(session::print(&lines)),
                Err(error) => session::complain(error, Outcome::Failed),
            },
        }
    }
}

fn outcome_of(next: Next) -> Outcome {
    let (Next::Line(outcome) | Next::End(outcome)) = next;
    outcome
}
