//! Reading expressions and templates.

use serde_json::Value;

use super::{Comparison, Condition, JsonPathError, Operand, Piece, Step};

/// Nesting of parentheses and brackets allowed in one expression: far above any use, far below the stack.
const MAX_DEPTH: usize = 32;

/// Reads one whole expression.
pub(super) fn path(text: &str) -> Result<Vec<Step>, JsonPathError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.space();
    let steps = reader.steps(true)?;
    reader.space();
    if reader.at < text.len() {
        return reader.fail("unexpected text after the expression");
    }
    Ok(steps)
}

/// Reads a whole template.
pub(super) fn template(text: &str) -> Result<Vec<Piece>, JsonPathError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    // Pieces collected per open `{range}`; the first entry is the top level.
    let mut open: Vec<(Vec<Step>, Vec<Piece>)> = vec![(Vec::new(), Vec::new())];
    let push = |open: &mut Vec<(Vec<Step>, Vec<Piece>)>, piece| {
        if let Some((_, pieces)) = open.last_mut() {
            pieces.push(piece);
        }
    };
    while reader.at < text.len() {
        let rest = &text[reader.at..];
        let plain = rest.find('{').unwrap_or(rest.len());
        if plain > 0 {
            push(&mut open, Piece::Text(rest[..plain].to_owned()));
            reader.at += plain;
            continue;
        }
        reader.at += 1;
        loop {
            reader.space();
            if reader.eat("}") {
                break;
            }
            match reader.peek() {
                None => return reader.fail("unclosed action: expected }"),
                Some('"' | '\'') => {
                    let literal = reader.quoted()?;
                    push(&mut open, Piece::Text(literal));
                }
                Some(c) if c.is_ascii_digit() => {
                    let number = reader.take_while(|c| c.is_ascii_digit() || c == '.').to_owned();
                    push(&mut open, Piece::Text(number));
                }
                _ if reader.keyword("range") => {
                    reader.space();
                    if open.len() > MAX_DEPTH {
                        return reader.fail("too many nested ranges");
                    }
                    let steps = reader.steps(true)?;
                    open.push((steps, Vec::new()));
                }
                _ if reader.keyword("end") => match open.pop() {
                    Some((steps, pieces)) if !open.is_empty() => push(&mut open, Piece::Range(steps, pieces)),
                    _ => return reader.fail("end without range"),
                },
                _ => {
                    let steps = reader.steps(false)?;
                    push(&mut open, Piece::Path(steps));
                }
            }
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some((_, pieces)), true) => Ok(pieces),
        _ => reader.fail("range without end"),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn fail<T>(&self, text: &str) -> Result<T, JsonPathError> {
        Err(JsonPathError { at: self.at, text: text.to_owned() })
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Eats `word` when it is not the start of a longer name.
    fn keyword(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let whole = rest
            .strip_prefix(word)
            .is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-'));
        if whole {
            self.at += word.len();
        }
        whole
    }

    /// A name after a dot; a backslash quotes the next character (`.metadata.labels.a\.b/c`).
    fn name(&mut self) -> String {
        let mut out = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    let Some(quoted) = self.peek() else { break };
                    out.push(quoted);
                    self.at += quoted.len_utf8();
                }
                c if c.is_whitespace() => break,
                '.' | '[' | ']' | '{' | '}' | '(' | ')' | ',' | '=' | '!' | '<' | '>' | '&' | '|' | '*' | '$' | '@'
                | '?' | '"' | '\'' => break,
                c => {
                    out.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        out
    }

    /// Steps up to the first character that cannot continue a path. `relaxed` lets the first name come without a dot.
    fn steps(&mut self, relaxed: bool) -> Result<Vec<Step>, JsonPathError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("nested too deep");
        }
        let from = self.at;
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Recursive);
                // A name or star may follow directly.
                if self.eat("*") {
                    steps.push(Step::Wildcard);
                } else {
                    let name = self.name();
                    if !name.is_empty() {
                        steps.push(Step::Field(name));
                    } else if self.peek() != Some('[') {
                        return self.fail("expected a name after ..");
                    }
                }
            } else if self.eat(".") {
                if self.eat("*") {
                    steps.push(Step::Wildcard);
                } else {
                    let name = self.name();
                    if !name.is_empty() {
                        steps.push(Step::Field(name));
                    } else if self.peek().is_some_and(|c| c != '[' && c != '}' && !c.is_whitespace()) {
                        return self.fail("expected a name after .");
                    }
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else if self.eat("*") {
                steps.push(Step::Wildcard);
            } else if self.eat("$") {
                steps.push(Step::Root);
            } else if self.eat("@") {
                steps.push(Step::Current);
            } else if relaxed && steps.is_empty() {
                let name = self.name();
                if name.is_empty() {
                    break;
                }
                steps.push(Step::Field(name));
            } else {
                break;
            }
        }
        self.depth -= 1;
        if self.at == from {
            return self.fail("expected a path such as .metadata.name");
        }
        Ok(steps)
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        self.space();
        if self.eat("?(") || self.eat("? (") {
            let condition = self.alternatives()?;
            self.space();
            if !self.eat(")") {
                return self.fail("unclosed filter: expected )");
            }
            self.space();
            if !self.eat("]") {
                return self.fail("unclosed filter: expected ]");
            }
            return Ok(Step::Filter(condition));
        }
        let mut parts = vec![self.subscript()?];
        loop {
            self.space();
            if self.eat(",") {
                parts.push(self.subscript()?);
            } else if self.eat("]") {
                return Ok(match parts.pop() {
                    Some(only) if parts.is_empty() => only,
                    last => {
                        parts.extend(last);
                        Step::Union(parts)
                    }
                });
            } else {
                return self.fail("unclosed bracket: expected ]");
            }
        }
    }

    fn subscript(&mut self) -> Result<Step, JsonPathError> {
        self.space();
        match self.peek() {
            Some('"' | '\'') => return Ok(Step::Key(self.quoted()?)),
            Some('*') => {
                self.at += 1;
                return Ok(Step::Wildcard);
            }
            _ => {}
        }
        let start = self.integer()?;
        self.space();
        if !self.eat(":") {
            return match start {
                Some(n) => Ok(Step::Index(n)),
                None => self.fail("expected an index, a quoted name, * or ?(...)"),
            };
        }
        let end = self.integer()?;
        self.space();
        let step = if self.eat(":") { self.integer()?.unwrap_or(1) } else { 1 };
        Ok(Step::Slice { start, end, step })
    }

    fn integer(&mut self) -> Result<Option<i64>, JsonPathError> {
        self.space();
        let from = self.at;
        self.eat("-");
        self.take_while(|c| c.is_ascii_digit());
        match &self.text[from..self.at] {
            "" => Ok(None),
            digits => match digits.parse() {
                Ok(n) => Ok(Some(n)),
                Err(_) => self.fail("invalid array index"),
            },
        }
    }

    /// A quoted string; `\n`, `\t`, `\r`, `\\` and quotes are understood.
    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let Some(quote) = self.peek() else { return self.fail("expected a quoted text") };
        self.at += quote.len_utf8();
        let mut out = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            if c == quote {
                return Ok(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let Some(escaped) = self.peek() else { break };
            self.at += escaped.len_utf8();
            match escaped {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                other => out.push(other),
            }
        }
        self.fail("unterminated quoted string")
    }

    fn alternatives(&mut self) -> Result<Condition, JsonPathError> {
        let mut left = self.conjunction()?;
        loop {
            self.space();
            if !self.eat("||") {
                return Ok(left);
            }
            left = Condition::Or(Box::new(left), Box::new(self.conjunction()?));
        }
    }

    fn conjunction(&mut self) -> Result<Condition, JsonPathError> {
        let mut left = self.condition()?;
        loop {
            self.space();
            if !self.eat("&&") {
                return Ok(left);
            }
            left = Condition::And(Box::new(left), Box::new(self.condition()?));
        }
    }

    fn condition(&mut self) -> Result<Condition, JsonPathError> {
        self.space();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("nested too deep");
        }
        let condition = if self.rest().starts_with('!') && !self.rest().starts_with("!=") {
            self.at += 1;
            Condition::Not(Box::new(self.condition()?))
        } else if self.eat("(") {
            let inner = self.alternatives()?;
            self.space();
            if !self.eat(")") {
                return self.fail("unclosed parenthesis in filter");
            }
            inner
        } else {
            let left = self.operand()?;
            self.space();
            let tokens = [
                ("==", Comparison::Equal),
                ("!=", Comparison::NotEqual),
                ("<=", Comparison::LessOrEqual),
                (">=", Comparison::GreaterOrEqual),
                ("<", Comparison::Less),
                (">", Comparison::Greater),
            ];
            match tokens.into_iter().find(|(token, _)| self.eat(token)) {
                Some((_, how)) => Condition::Compare(left, how, self.operand()?),
                None => Condition::Exists(left),
            }
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn operand(&mut self) -> Result<Operand, JsonPathError> {
        self.space();
        match self.peek() {
            Some('"' | '\'') => return Ok(Operand::Literal(Value::String(self.quoted()?))),
            Some(c) if c.is_ascii_digit() || c == '-' => {
                let text = self.take_while(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | 'e' | 'E' | '+'));
                return match serde_json::from_str(text) {
                    Ok(number) => Ok(Operand::Literal(number)),
                    Err(_) => self.fail("invalid number"),
                };
            }
            _ => {}
        }
        for (word, value) in [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)] {
            if self.keyword(word) {
                return Ok(Operand::Literal(value));
            }
        }
        Ok(Operand::Path(self.steps(false)?))
    }
}
