//! (story to come)
fn main() {}
