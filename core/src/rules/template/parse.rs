//! Builds a template's tree, and checks names: functions and variables must exist.

use super::{
    Fault, VARIABLES,
    ast::{Branch, Command, Node, Operand, OperandKind, Pipe},
    functions,
    lex::{Kind, Piece, Token},
};
use alloc::{boxed::Box, format, string::String, vec::Vec};

/// Deepest nesting of blocks and parentheses.
const DEPTH_MAX: usize = 50;

type Parsed = (Vec<Node>, Vec<(Box<str>, Vec<Node>)>);

pub fn parse(text: &str, pieces: &[Piece<'_>]) -> Result<Parsed, Fault> {
    let mut parser = Parser {
        pieces,
        index: 0,
        end_at: text.len(),
        variables: VARIABLES.iter().map(|name| (*name).into()).collect(),
        defined: Vec::new(),
        depth: 0,
        loop_depth: 0,
    };
    let (root, stop) = parser.list()?;
    match stop {
        Stop::End => Ok((root, parser.defined)),
        Stop::Action(at, _) => Err(Fault::new(at, "unexpected {{end}}")),
        Stop::Else(at, _) => Err(Fault::new(at, "unexpected {{else}}")),
    }
}

struct Parser<'p, 't> {
    pieces: &'p [Piece<'t>],
    index: usize,
    end_at: usize,
    variables: Vec<Box<str>>,
    defined: Vec<(Box<str>, Vec<Node>)>,
    depth: usize,
    loop_depth: usize,
}

/// What ended a list of nodes.
enum Stop<'p, 't> {
    End,
    /// `{{end}}`
    Action(usize, ()),
    /// `{{else ...}}`, with the tokens behind `else`.
    Else(usize, &'p [Token<'t>]),
}

impl<'p, 't> Parser<'p, 't> {
    fn list(&mut self) -> Result<(Vec<Node>, Stop<'p, 't>), Fault> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.index) {
            self.index += 1;
            let (at, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text((*text).into()));
                    continue;
                }
                Piece::Action { at, tokens } => (*at, &tokens[..]),
            };
            match keyword(tokens) {
                Some("end") => return Ok((nodes, Stop::Action(at, nothing_more(&tokens[1..], "end")?))),
                Some("else") => return Ok((nodes, Stop::Else(at, &tokens[1..]))),
                _ => nodes.extend(self.action(at, tokens)?),
            }
        }
        Ok((nodes, Stop::End))
    }

    fn action(&mut self, at: usize, tokens: &'p [Token<'t>]) -> Result<Option<Node>, Fault> {
        let rest = tokens.get(1..).unwrap_or(&[]);
        Ok(Some(match keyword(tokens) {
            Some(word @ ("if" | "with" | "range")) => self.nested(at, |parser| parser.branch(word, at, rest))?,
            Some("define") => {
                let (name, rest) = template_name(at, rest, "define clause")?;
                nothing_more(rest, "define clause")?;
                self.define(at, name)?;
                return Ok(None);
            }
            Some("block") => {
                let (name, rest) = template_name(at, rest, "block clause")?;
                let pipe = self.pipe(at, rest, 0, "block clause")?;
                self.define(at, name)?;
                Node::Template { at: tokens[1].at, name: name.into(), pipe: Some(pipe) }
            }
            Some("template") => {
                let (name, rest) = template_name(at, rest, "template clause")?;
                let pipe = (!rest.is_empty()).then(|| self.pipe(at, rest, 0, "template clause")).transpose()?;
                Node::Template { at: tokens[1].at, name: name.into(), pipe }
            }
            Some(word @ ("break" | "continue")) => {
                nothing_more(rest, word)?;
                if self.loop_depth == 0 {
                    return Err(Fault::new(at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
            _ => Node::Action(self.pipe(at, tokens, 1, "command")?),
        }))
    }

    /// The body of `define` or `block`: sees no variable but `$`.
    fn define(&mut self, at: usize, name: &str) -> Result<(), Fault> {
        let outer = core::mem::replace(&mut self.variables, alloc::vec!["$".into()]);
        let outer_loops = core::mem::take(&mut self.loop_depth);
        let (nodes, stop) = self.nested(at, Self::list)?;
        match stop {
            Stop::Action(..) => {}
            Stop::Else(at, _) => return Err(Fault::new(at, "unexpected {{else}} in define clause")),
            Stop::End => return Err(Fault::new(self.end_at, "unexpected EOF")),
        }
        (self.variables, self.loop_depth) = (outer, outer_loops);
        if self.defined.iter().any(|(known, _)| **known == *name) {
            return Err(Fault::new(at, format!("multiple definition of template {name:?}")));
        }
        self.defined.push((name.into(), nodes));
        Ok(())
    }

    /// `if`, `with` or `range`, to its `end`.
    fn branch(&mut self, word: &str, at: usize, tokens: &'p [Token<'t>]) -> Result<Node, Fault> {
        let scope = self.variables.len();
        let pipe = self.pipe(at, tokens, if word == "range" { 2 } else { 1 }, word)?;
        let loops = usize::from(word == "range");
        self.loop_depth += loops;
        let (then, stop) = self.list()?;
        self.loop_depth -= loops;
        let otherwise = match stop {
            Stop::Action(..) => Vec::new(),
            Stop::Else(at, rest) => match keyword(rest) {
                Some(next @ ("if" | "with")) if next == word => {
                    alloc::vec![self.nested(at, |parser| parser.branch(next, at, &rest[1..]))?]
                }
                _ => {
                    nothing_more(rest, "else")?;
                    let (otherwise, stop) = self.list()?;
                    match stop {
                        Stop::Action(..) => otherwise,
                        Stop::Else(at, _) => return Err(Fault::new(at, "expected end; found {{else}}")),
                        Stop::End => return Err(Fault::new(self.end_at, "unexpected EOF")),
                    }
                }
            },
            Stop::End => return Err(Fault::new(self.end_at, "unexpected EOF")),
        };
        self.variables.truncate(scope);
        let branch = Branch { pipe, then, otherwise };
        Ok(match word {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }

    /// `$a := command | command`, all of `tokens`; at most `variables_max` variables.
    fn pipe(&mut self, at: usize, tokens: &[Token<'t>], variables_max: usize, what: &str) -> Result<Pipe, Fault> {
        let mut cursor = Cursor { tokens, index: 0, at };
        let pipe = self.pipe_at(&mut cursor, variables_max, what)?;
        match cursor.peek() {
            None => Ok(pipe),
            Some(token) => Err(Fault::new(token.at, format!("unexpected {} in {what}", shown(&token.kind)))),
        }
    }

    fn pipe_at(&mut self, cursor: &mut Cursor<'_, 't>, variables_max: usize, what: &str) -> Result<Pipe, Fault> {
        let start = cursor.here();
        let (variables, assigns) = self.variables_of(cursor, variables_max, what)?;
        let start = if variables.is_empty() { start } else { cursor.here() };
        let mut commands = Vec::new();
        loop {
            commands.push(self.command(cursor, what)?);
            // Go takes a pipe sign at the end for nothing.
            if !cursor.take_sign("|") || cursor.peek().is_none() {
                break;
            }
        }
        for command in &commands[1..] {
            let first = &command.operands[0];
            if first.is_literal() || (matches!(first.kind, OperandKind::Dot) && first.fields.is_empty()) {
                let at = &first.at;
                return Err(Fault::new(*at, "non executable command in pipeline; put a function behind the |"));
            }
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { at: start, length: cursor.end() - start, variables, assigns, commands })
    }

    /// The variables a pipe sets, and whether by `=`.
    fn variables_of(
        &mut self,
        cursor: &mut Cursor<'_, 't>,
        variables_max: usize,
        what: &str,
    ) -> Result<(Vec<Box<str>>, bool), Fault> {
        let kind = |index: usize| cursor.tokens.get(cursor.index + index).map(|token| &token.kind);
        let (count, sign) = match (kind(0), kind(1), kind(2), kind(3)) {
            (Some(Kind::Variable(_)), Some(Kind::Sign(sign @ (":=" | "="))), ..) => (1, *sign),
            (Some(Kind::Variable(_)), Some(Kind::Sign(",")), Some(Kind::Variable(_)), Some(Kind::Sign(":=" | "="))) => {
                (2, if matches!(kind(3), Some(Kind::Sign("="))) { "=" } else { ":=" })
            }
            _ => return Ok((Vec::new(), false)),
        };
        if count > variables_max {
            return Err(Fault::new(cursor.here(), format!("too many declarations in {what}")));
        }
        let mut variables = Vec::new();
        for index in 0..count {
            let token = &cursor.tokens[cursor.index + 2 * index];
            if let Kind::Variable(name) = token.kind {
                if sign == "=" {
                    self.check_variable(token.at, name)?;
                }
                variables.push(name.into());
            }
        }
        cursor.index += 2 * count;
        Ok((variables, sign == "="))
    }

    fn command(&mut self, cursor: &mut Cursor<'_, 't>, what: &str) -> Result<Command, Fault> {
        let at = cursor.here();
        let mut operands: Vec<Operand> = Vec::new();
        while let Some(token) = cursor.peek() {
            if matches!(token.kind, Kind::Sign("|" | ")")) {
                break;
            }
            if !operands.is_empty() && !token.spaced {
                return Err(Fault::new(token.at, format!("unexpected {} in operand", shown(&token.kind))));
            }
            operands.push(self.operand(cursor, what)?);
        }
        if operands.is_empty() {
            return Err(Fault::new(at, format!("missing value for {what}")));
        }
        Ok(Command { at, length: cursor.end() - at, operands })
    }

    fn operand(&mut self, cursor: &mut Cursor<'_, 't>, what: &str) -> Result<Operand, Fault> {
        let Some(token) = cursor.next() else { return Err(Fault::new(cursor.at, format!("missing value for {what}"))) };
        let at = token.at;
        let mut fields = Vec::new();
        let kind = match &token.kind {
            Kind::Dot => OperandKind::Dot,
            Kind::Field(name) => {
                fields.push((*name).into());
                OperandKind::Dot
            }
            Kind::Variable(name) => {
                self.check_variable(at, name)?;
                OperandKind::Variable((*name).into())
            }
            Kind::Text(text) => OperandKind::Text(text.clone()),
            Kind::Int(int) => OperandKind::Int(*int),
            Kind::Float(float) => OperandKind::Float(*float),
            Kind::Name("nil") => OperandKind::Nil,
            Kind::Name("true") => OperandKind::Bool(true),
            Kind::Name("false") => OperandKind::Bool(false),
            Kind::Name(name) => OperandKind::Function(
                functions::find(name).ok_or_else(|| Fault::new(at, format!("function {name:?} not defined")))?,
            ),
            Kind::Sign("(") => {
                let pipe = self.nested(at, |parser| parser.pipe_at(cursor, 1, "parenthesized pipeline"))?;
                if !cursor.take_sign(")") {
                    return Err(Fault::new(at, "unclosed left paren"));
                }
                OperandKind::Pipe(Box::new(pipe))
            }
            Kind::Sign(_) => return Err(Fault::new(at, format!("unexpected {} in {what}", shown(&token.kind)))),
        };
        let mut named_at = None;
        while let Some(Token { kind: Kind::Field(name), spaced: false, at: field_at, .. }) = cursor.peek() {
            named_at.get_or_insert(*field_at);
            if matches!(
                kind,
                OperandKind::Bool(_)
                    | OperandKind::Int(_)
                    | OperandKind::Float(_)
                    | OperandKind::Text(_)
                    | OperandKind::Nil
            ) {
                return Err(Fault::new(*field_at, format!("unexpected . after term {:?}", name)));
            }
            fields.push((*name).into());
            cursor.index += 1;
        }
        Ok(Operand { at, named_at: named_at.unwrap_or(at), length: cursor.end() - at, kind, fields })
    }

    fn check_variable(&self, at: usize, name: &str) -> Result<(), Fault> {
        if self.variables.iter().any(|known| **known == *name) {
            return Ok(());
        }
        Err(Fault::new(at, format!("undefined variable {name:?}")))
    }

    fn nested<R>(&mut self, at: usize, parse: impl FnOnce(&mut Self) -> Result<R, Fault>) -> Result<R, Fault> {
        if self.depth >= DEPTH_MAX {
            return Err(Fault::new(at, format!("nested deeper than {DEPTH_MAX}; make it flatter")));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }
}

/// Tokens of one action.
struct Cursor<'c, 't> {
    tokens: &'c [Token<'t>],
    index: usize,
    /// The action's start, where there is no token.
    at: usize,
}

impl<'c, 't> Cursor<'c, 't> {
    fn peek(&self) -> Option<&'c Token<'t>> {
        self.tokens.get(self.index)
    }

    fn next(&mut self) -> Option<&'c Token<'t>> {
        let token = self.peek()?;
        self.index += 1;
        Some(token)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token { kind: Kind::Sign(found), .. }) if *found == sign);
        self.index += usize::from(found);
        found
    }

    /// Where the next token begins.
    fn here(&self) -> usize {
        self.peek().map_or_else(|| self.end(), |token| token.at)
    }

    /// Where the last token taken ends.
    fn end(&self) -> usize {
        match self.index.checked_sub(1).and_then(|index| self.tokens.get(index)) {
            Some(token) => token.at + token.length,
            None => self.at,
        }
    }
}

fn keyword<'t>(tokens: &[Token<'t>]) -> Option<&'t str> {
    match tokens.first()?.kind {
        Kind::Name(name) => Some(name),
        _ => None,
    }
}

fn nothing_more(tokens: &[Token<'_>], what: &str) -> Result<(), Fault> {
    match tokens.first() {
        None => Ok(()),
        Some(token) => Err(Fault::new(token.at, format!("unexpected {} in {what}", shown(&token.kind)))),
    }
}

fn template_name<'p, 't>(at: usize, tokens: &'p [Token<'t>], what: &str) -> Result<(&'p str, &'p [Token<'t>]), Fault> {
    match tokens.split_first() {
        Some((Token { kind: Kind::Text(name), .. }, rest)) => Ok((name, rest)),
        _ => Err(Fault::new(at, format!("{what} needs a quoted name"))),
    }
}

fn shown(kind: &Kind<'_>) -> String {
    match kind {
        Kind::Name(text) | Kind::Variable(text) => format!("<{text}>"),
        Kind::Field(text) => format!("<.{text}>"),
        Kind::Dot => "<.>".into(),
        Kind::Text(text) => format!("{text:?}"),
        Kind::Int(int) => format!("\"{int}\""),
        Kind::Float(float) => format!("\"{float}\""),
        Kind::Sign(sign) => format!("{sign:?}"),
    }
}
