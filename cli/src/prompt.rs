//! The prompt: lines with history and completion.
//!
//! As at the prompt of birdc, `?` shows at once what can follow, and what was typed stays. Tab completes
//! keywords and the names that the daemon knows. Ctrl-C clears the line or ends the answer, Ctrl-D leaves. Pasted lines
//! are done one after the other; Ctrl-C ends all of them.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use cambric_api::ALL;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    Helper, KeyEvent, RepeatCount,
};

use crate::command::Following;
use crate::history::{Keeper, MOST_LINES};
use crate::interrupt::Interrupt;
use crate::session::{Next, Outcome, Output, Session, complain, print, tell};

const PROMPT: &str = "cambric> ";

/// Times in a row that a terminal may send what is no text: a key of another encoding is a slip, a line that hums
/// is not.
const MOST_SLIPS: usize = 20;

/// Reads and does lines until the operator leaves.
pub(crate) fn run(socket: PathBuf, output: Output) -> Outcome {
    let mut session = Session::new(socket, output);
    match Interrupt::hold() {
        Ok(interrupt) => session.outlive(interrupt),
        Err(error) => drop(complain(format_args!("Ctrl-C will end the prompt: {error}"), Outcome::Failed)),
    }
    match Prompt::new(session) {
        Ok(prompt) => prompt.run(),
        Err(error) => complain(format_args!("no prompt: {error}"), Outcome::Failed),
    }
}

struct Prompt {
    editor: Editor<Grammar, FileHistory>,
    session: Rc<RefCell<Session>>,
    keeper: Keeper,
    asked: Asked,
}

impl Prompt {
    fn new(session: Session) -> Result<Prompt, ReadlineError> {
        let config = Config::builder()
            .max_history_size(MOST_LINES)?
            .history_ignore_dups(true)?
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .build();
        let mut editor = Editor::with_config(config)?;
        let session = Rc::new(RefCell::new(session));
        editor.set_helper(Some(Grammar { session: Rc::clone(&session), files: FilenameCompleter::new() }));
        let asked = Asked::default();
        let question_mark = EventHandler::Conditional(Box::new(asked.clone()));
        editor.bind_sequence(KeyEvent::from('?'), question_mark);
        Ok(Prompt { editor, session, keeper: Keeper::of_user(), asked })
    }

    fn run(mut self) -> Outcome {
        if let Err(error) = self.keeper.load(self.editor.history_mut()) {
            complain(format_args!("earlier lines are not known: {error}"), Outcome::Failed);
        }
        self.session.borrow_mut().greet();
        let mut initial = Initial::default();
        let mut slips = 0;
        loop {
            let line = match self.editor.readline_with_initial(PROMPT, (&initial.before, &initial.behind)) {
                Ok(line) => line,
                Err(ReadlineError::Io(error))
                    if error.kind() == ErrorKind::InvalidData && slips < MOST_SLIPS =>
                {
                    slips += 1;
                    complain("what was typed is no UTF-8; the line is dropped", Outcome::Misused);
                    initial = Initial::default();
                    continue;
                }
                Err(ReadlineError::Interrupted) => {
                    self.asked.take();
                    initial = Initial::default();
                    continue;
                }
                Err(ReadlineError::Eof) => return Outcome::Done,
                Err(error) => return complain(format_args!("the terminal: {error}"), Outcome::Failed),
            };
            slips = 0;
            initial = match self.asked.take() {
                Some(cursor) => self.explain(&line, cursor),
                None if matches!(self.take(&line), Next::End(_)) => return Outcome::Done,
                None => Initial::default(),
            };
        }
    }

    /// Shows what can follow before the cursor; the line stays as it is.
    fn explain(&mut self, line: &str, cursor: usize) -> Initial {
        let (before, behind) = line.split_at_checked(cursor).unwrap_or((line, ""));
        match Following::of(before) {
            Ok(following) => {
                print(&following.help());
                let names = following.name.map(|place| (place, self.session.borrow_mut().names(place)));
                if let Some((place, mut names)) = names.filter(|(_, names)| !names.is_empty()) {
                    names.extend((place == "PEER|all").then(|| ALL.to_owned()));
                    tell(&format!("{place}: {}", names.join(" ")));
                }
            }
            Err(error) => drop(complain(error, Outcome::Misused)),
        }
        Initial { before: before.to_owned(), behind: behind.to_owned() }
    }

    /// Does a line; several if they were pasted, until Ctrl-C.
    fn take(&mut self, lines: &str) -> Next {
        self.session.borrow().forget_interrupt();
        let mut lines = lines.lines().filter(|line| !line.trim().is_empty());
        while let Some(line) = lines.next() {
            if let end @ Next::End(_) = self.take_one(line) {
                return end;
            }
            if self.session.borrow().was_interrupted() {
                let left = lines.count();
                if left > 0 {
                    complain(format_args!("interrupted; lines not done: {left}"), Outcome::Failed);
                }
                break;
            }
        }
        Next::Line(Outcome::Done)
    }

    /// Keeps a line and does it.
    fn take_one(&mut self, line: &str) -> Next {
        let kept = self.editor.add_history_entry(line.trim());
        if let Err(error) = kept.and_then(|_| self.keeper.append(self.editor.history_mut())) {
            complain(format_args!("history is not kept: {error}"), Outcome::Failed);
        }
        self.session.borrow_mut().run(line)
    }
}

/// What stands in the line before anything is typed.
#[derive(Debug, Default)]
struct Initial {
    before: String,
    behind: String,
}

/// Where the cursor was when `?` was typed.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<Option<usize>>>);

impl Asked {
    fn take(&self) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ConditionalEventHandler for Asked {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.pos());
        Some(Cmd::AcceptLine)
    }
}

/// Completes from the grammar table and from what the daemon knows.
struct Grammar {
    session: Rc<RefCell<Session>>,
    files: FilenameCompleter,
}

impl Grammar {
    /// Of the word at the end of the line alone; `~/` becomes the folder that it stands for.
    fn complete_path(&self, line: &str, following: &Following) -> rustyline::Result<(usize, Vec<Pair>)> {
        let word = &line[following.typed_at..];
        if word.starts_with("~/") && !word.contains([' ', '\\']) {
            let (_, found) = self.files.complete_path(&following.typed, following.typed.len())?;
            return Ok((following.typed_at, found));
        }
        let (start, found) = self.files.complete_path(word, word.len())?;
        Ok((following.typed_at + start, found))
    }
}

impl Completer for Grammar {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Ok(following) = Following::of(&line[..cursor]) else { return Ok((cursor, Vec::new())) };
        if following.name == Some("FOLDER") {
            return self.complete_path(&line[..cursor], &following);
        }
        let keywords = following.keywords.iter().map(|word| (*word).to_owned());
        let mut names =
            following.name.map(|place| self.session.borrow_mut().names(place)).unwrap_or_default();
        names.retain(|name| name.starts_with(&following.typed));
        if following.name == Some("PEER|all") && following.typed == ALL {
            names.push(ALL.to_owned());
        }
        let names = names.into_iter();
        let candidates =
            keywords.chain(names).map(|word| Pair { replacement: format!("{word} "), display: word });
        Ok((following.typed_at, candidates.collect()))
    }
}

impl Hinter for Grammar {
    type Hint = String;
}
impl Highlighter for Grammar {}
impl Validator for Grammar {}
impl Helper for Grammar {}
