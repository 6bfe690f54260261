//! What others do to our tables and sets is put right; what is theirs is left alone.
