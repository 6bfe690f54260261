//! One expression in CEL, over JSON.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use kube_cel::KubeCelExt;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{self, Context, ExecutionError, Program};
use serde_json::Value;

/// What expressions are about: `object`, `oldObject`, `request`, and `variables`, which grow as they are evaluated.
pub(super) struct Scope {
    context: Context<'static>,
    variables: HashMap<Key, cel::Value>,
}

impl Scope {
    pub(super) fn new(names: &[(&str, &Value)]) -> Scope {
        let mut context = Context::default().with_all();
        // Of the language, and not of the library: everything is dynamic here.
        context.add_function("dyn", |value: cel::Value| -> Result<cel::Value, ExecutionError> { Ok(value) });
        for (name, value) in names {
            context.add_variable_from_value(*name, of_json(value));
        }
        Scope { context, variables: HashMap::new() }
    }

    /// Has `variables.NAME` from now on; one that cannot be evaluated is absent, and so is what uses it.
    pub(super) fn set(&mut self, name: &str, expression: &str) {
        if let Ok(value) = self.evaluate(expression) {
            self.variables.insert(Key::from(name.to_owned()), value);
        }
        let variables = Map { map: Arc::new(self.variables.clone()) };
        self.context.add_variable_from_value("variables", cel::Value::Map(variables));
    }

    /// # Errors
    /// It does not compile, fails, or is neither true nor false.
    pub(super) fn is_true(&self, expression: &str) -> Result<bool, String> {
        match self.evaluate(expression)? {
            cel::Value::Bool(truth) => Ok(truth),
            other => Err(format!("cel expression does not evaluate to bool, but to {other:?}")),
        }
    }

    /// # Errors
    /// It does not compile, fails, or is no text.
    pub(super) fn text(&self, expression: &str) -> Result<String, String> {
        match self.evaluate(expression)? {
            cel::Value::String(text) => Ok(text.to_string()),
            other => Err(format!("cel expression does not evaluate to string, but to {other:?}")),
        }
    }

    fn evaluate(&self, expression: &str) -> Result<cel::Value, String> {
        let program = compiled(expression);
        let program = program.as_ref().as_ref().map_err(Clone::clone)?;
        program
            .execute(&self.context)
            .map_err(|error| format!("expression '{expression}' resulted in error: {error}"))
    }
}

/// # Errors
/// It is no expression.
pub(super) fn check(expression: &str) -> Result<(), String> {
    compiled(expression).as_ref().as_ref().map(|_| ()).map_err(Clone::clone)
}

/// An expression is compiled once on a thread: policies say a few, and are asked at every write.
fn compiled(expression: &str) -> Rc<Result<Program, String>> {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Rc<Result<Program, String>>>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|known| {
        let compile = || Program::compile(expression).map_err(|error| format!("compilation failed: {error}"));
        Rc::clone(known.entry(expression.to_owned()).or_insert_with(|| Rc::new(compile())))
    })
}

/// Numbers without a fraction are `int`, as in objects of the API.
fn of_json(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)), cel::Value::Int),
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(of_json).collect())),
        Value::Object(fields) => {
            let map = fields.iter().map(|(name, value)| (Key::from(name.clone()), of_json(value))).collect();
            cel::Value::Map(Map { map: Arc::new(map) })
        }
    }
}
