//! Steps to take back when a later one fails.
//!
//! A step that may be done in part is noted *before* it is tried; so taking back what was never done must succeed.

/// Notes of what to take back, in the order it was tried.
#[derive(Default)]
pub(crate) struct Undo<'a> {
    steps: Vec<Box<dyn FnOnce() -> Result<(), String> + 'a>>,
}

impl<'a> Undo<'a> {
    /// Notes how to take the next step back.
    pub(crate) fn note(&mut self, step: impl FnOnce() -> Result<(), String> + 'a) {
        self.steps.push(Box::new(step));
    }

    /// Takes all back, last first; goes on after failures and returns them all.
    pub(crate) fn run(self) -> Vec<String> {
        self.steps.into_iter().rev().filter_map(|step| step().err()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn runs_in_reverse_and_reports_every_failure() {
        let order = RefCell::new(Vec::new());
        let mut undo = Undo::default();
        for name in ["lease", "link", "route"] {
            let order = &order;
            undo.note(move || {
                order.borrow_mut().push(name);
                if name == "link" { Ok(()) } else { Err(format!("{name} stays")) }
            });
        }
        assert_eq!(undo.run(), ["route stays", "lease stays"]);
        assert_eq!(*order.borrow(), ["route", "link", "lease"]);
    }
}
