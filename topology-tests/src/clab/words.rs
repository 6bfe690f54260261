//! Splits a command line into words as a POSIX shell does, without expanding anything: containerlab runs `exec` and
//! `cmd` without a shell, too.

/// Words of a line; `'…'`, `"…"` and backslash quote.
///
/// # Errors
/// When a quote is not closed.
pub fn split_words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => {
                let escaped = characters.next().ok_or("nothing after the last backslash")?;
                // Inside "…" a backslash only quotes what would end or escape it.
                if quote == Some('"') && !matches!(escaped, '"' | '\\' | '$' | '`') {
                    word.get_or_insert_default().push('\\');
                }
                word.get_or_insert_default().push(escaped);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split_words;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let table: [(&str, &[&str]); 6] = [
            ("ip link  set lo up", &["ip", "link", "set", "lo", "up"]),
            ("vtysh -c 'show bgp'", &["vtysh", "-c", "show bgp"]),
            (r#"sh -c "echo \"a b\" '$x'""#, &["sh", "-c", r#"echo "a b" '$x'"#]),
            (r"a\ b ''", &["a b", ""]),
            (r#"x"y"'z'"#, &["xyz"]),
            ("  ", &[]),
        ];
        for (line, words) in table {
            assert_eq!(split_words(line).as_deref(), Ok(&words.map_strings()[..]), "{line}");
        }
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert_eq!(split_words("echo 'a"), Err("quote is not closed"));
        assert_eq!(split_words("echo a\\"), Err("nothing after the last backslash"));
    }

    trait MapStrings {
        fn map_strings(&self) -> Vec<String>;
    }

    impl MapStrings for &[&str] {
        fn map_strings(&self) -> Vec<String> {
            self.iter().map(|word| (*word).to_owned()).collect()
        }
    }
}
