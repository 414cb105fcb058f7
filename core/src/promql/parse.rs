//! Tokens to an expression, by precedence climbing; then [`super::check`] looks at the types.
//!
//! The grammar is Prometheus' (promql/parser/generated_parser.y). Keywords are case-insensitive and are names wherever
//! a name is wanted.

use super::{
    ast::{
        Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Matching, Modifiers, Quoted,
        Selector, Span,
    },
    check,
    functions::{self, later},
    lex::{self, Token, TokenKind},
};
use crate::labels::{MatchOp, Matcher, NAME};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::fmt;

/// Greatest height of an expression's tree. Reading, walking and evaluating one recurses, so this bounds the stack (to
/// well below 2 MiB even unoptimized); a higher one is refused.
pub const HEIGHT_MAX: usize = 100;

/// Where and why a text is not PromQL. Displays as Prometheus does: `1:5: parse error: ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Bytes of the text that are meant.
    pub span: Span,
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    pub message: String,
}

impl ParseError {
    fn new(text: &str, (span, message): Refusal) -> Self {
        let before = &text.as_bytes()[..span.start.min(text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Self { span, line, column, message }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl core::error::Error for ParseError {}

/// A place and a reason, before it becomes a [`ParseError`].
pub(super) type Refusal = (Span, String);

/// Reads and type-checks an expression.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_checked(text).map_err(|refusal| ParseError::new(text, refusal))
}

/// Reads a bare series selector, as `match[]` has it.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let expr = parse(text)?;
    match expr.kind {
        ExprKind::Selector(selector) if selector.modifiers == Modifiers::default() => Ok(selector.matchers),
        _ => Err(ParseError::new(text, (expr.span, "expected a series selector such as up{job=\"node\"}".into()))),
    }
}

fn parse_checked(text: &str) -> Result<Expr, Refusal> {
    let (tokens, broken) = lex::lex(text);
    let mut parser = Parser { text, tokens, broken, at: 0, depth: 0 };
    if parser.peek().kind == TokenKind::End {
        return Err((Span::default(), "no expression found in input".into()));
    }
    let (expr, _) = parser.expression(0)?;
    let rest = parser.peek();
    if rest.kind != TokenKind::End {
        return Err(parser.unexpected(rest, ""));
    }
    check::check(&expr)?;
    Ok(expr)
}

/// An expression and the height of its tree.
type Parsed = (Expr, usize);

/// Whether it is `without`, and the labels.
type Grouping = (bool, Vec<Box<str>>);

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    /// Why the last token is broken, if it is.
    broken: Option<Refusal>,
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Token {
        self.tokens[self.at]
    }

    fn peek_second(&self) -> Token {
        self.tokens[(self.at + 1).min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn slice(&self, token: Token) -> &'t str {
        &self.text[token.span.start..token.span.end]
    }

    fn accept(&mut self, kind: TokenKind) -> bool {
        let found = self.peek().kind == kind;
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, kind: TokenKind, context: &str) -> Result<Token, Refusal> {
        match self.peek() {
            token if token.kind == kind => Ok(self.take()),
            token => Err(self.unexpected(token, context)),
        }
    }

    fn is_keyword(&self, token: Token, keyword: &str) -> bool {
        token.kind == TokenKind::Word && self.slice(token).eq_ignore_ascii_case(keyword)
    }

    fn accept_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(self.peek(), keyword);
        if found {
            self.take();
        }
        found
    }

    fn unexpected(&self, token: Token, context: &str) -> Refusal {
        if let (TokenKind::Broken, Some(broken)) = (token.kind, &self.broken) {
            return broken.clone();
        }
        let text = self.slice(token);
        let lower = text.to_ascii_lowercase();
        let what = match token.kind {
            TokenKind::End => "end of input".into(),
            TokenKind::Word if KEYWORDS.contains(&lower.as_str()) => format!("<{lower}>"),
            TokenKind::Word if binary_word(&lower).is_some() => format!("<op:{lower}>"),
            TokenKind::Word if AggregateOp::ALL.iter().any(|(_, name)| *name == lower) => format!("<aggr:{lower}>"),
            TokenKind::Word => format!("identifier {}", Quoted(text)),
            TokenKind::Number => format!("number {}", Quoted(text)),
            TokenKind::Duration => format!("duration {}", Quoted(text)),
            TokenKind::Text => format!("string {}", Quoted(text)),
            kind if binary_symbol(kind).is_some() => format!("<op:{text}>"),
            _ => format!("{}", Quoted(text)),
        };
        (token.span, format!("unexpected {what}{}{context}", if context.is_empty() { "" } else { " in " }))
    }

    fn span_from(&self, start: usize) -> Span {
        Span { start, end: self.tokens[self.at.saturating_sub(1)].span.end }
    }

    fn expression(&mut self, precedence_min: u8) -> Result<Parsed, Refusal> {
        self.depth += 1;
        if self.depth > HEIGHT_MAX {
            return Err((self.peek().span, too_high()));
        }
        let (mut left, mut height) = self.unary()?;
        while let Some(op) = self.peek_operator().filter(|op| op.precedence() >= precedence_min) {
            let op_span = self.take().span;
            let (return_bool, matching) = self.binary_modifiers(op)?;
            self.refuse_fill()?;
            // Only `^` groups to the right.
            let (right, right_height) = self.expression(op.precedence() + u8::from(op != BinaryOp::Power))?;
            let span = Span { start: left.span.start, end: right.span.end };
            height = 1 + height.max(right_height);
            if height > HEIGHT_MAX {
                return Err((span, too_high()));
            }
            left = Expr {
                kind: ExprKind::Binary(Box::new(Binary { op, op_span, left, right, return_bool, matching })),
                span,
            };
        }
        self.depth -= 1;
        Ok((left, height))
    }

    fn peek_operator(&self) -> Option<BinaryOp> {
        let token = self.peek();
        match token.kind {
            TokenKind::Word => binary_word(&self.slice(token).to_ascii_lowercase()),
            kind => binary_symbol(kind),
        }
    }

    fn binary_modifiers(&mut self, op: BinaryOp) -> Result<(bool, Matching), Refusal> {
        let bool_span = self.peek().span;
        let return_bool = self.accept_keyword("bool");
        if return_bool && !op.is_comparison() {
            return Err((bool_span, "bool modifier can only be used on comparison operators".into()));
        }
        let mut matching = Matching::default();
        if self.accept_keyword("on") {
            matching.on = true;
        } else if !self.accept_keyword("ignoring") {
            return Ok((return_bool, matching));
        }
        matching.labels = self.label_list()?;
        for (keyword, cardinality) in [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)]
        {
            if self.is_keyword(self.peek(), keyword) {
                let span = self.take().span;
                if op.is_set() {
                    return Err((span, format!("no grouping allowed for {:?} operation", op.text())));
                }
                matching.cardinality = cardinality;
                // `a * on(x) group_left (b)`: the parentheses are the label list, not the operand.
                if self.peek().kind == TokenKind::LeftParen {
                    matching.include = self.label_list()?;
                }
                break;
            }
        }
        Ok((return_bool, matching))
    }

    fn refuse_fill(&self) -> Result<(), Refusal> {
        let token = self.peek();
        let is_fill = ["fill", "fill_left", "fill_right"].iter().any(|keyword| self.is_keyword(token, keyword));
        if is_fill && self.peek_second().kind == TokenKind::LeftParen {
            return Err((token.span, format!("not supported yet: the modifier {}", self.slice(token))));
        }
        Ok(())
    }

    fn unary(&mut self) -> Result<Parsed, Refusal> {
        let token = self.peek();
        let negative = match token.kind {
            TokenKind::Minus => true,
            TokenKind::Plus => false,
            _ => return self.postfix(),
        };
        self.take();
        let (mut operand, height) = self.expression(BinaryOp::Power.precedence())?;
        let span = Span { start: token.span.start, end: operand.span.end };
        if let ExprKind::Number { value, .. } = &mut operand.kind {
            *value = if negative { -*value } else { *value };
            operand.span = span;
            return Ok((operand, height));
        }
        Ok((Expr { kind: ExprKind::Unary { negative, operand: Box::new(operand) }, span }, height + 1))
    }

    /// A primary expression with any `[range]`, `offset` and `@` behind it.
    fn postfix(&mut self) -> Result<Parsed, Refusal> {
        let (mut expr, mut height) = self.primary()?;
        loop {
            let (token, span) = (self.peek(), expr.span);
            if token.kind == TokenKind::LeftBracket {
                expr = self.brackets(expr)?;
                height += 1;
            } else if self.is_keyword(token, "offset") {
                self.take();
                let offset_ms = self.signed_duration_ms("offset")?;
                let modifiers = modifiers_of(&mut expr).ok_or_else(|| misplaced(span, "offset modifier"))?;
                if modifiers.offset_ms != 0 {
                    return Err((token.span, "offset may not be set multiple times".into()));
                }
                modifiers.offset_ms = offset_ms;
                expr.span.end = self.span_from(0).end;
            } else if token.kind == TokenKind::At {
                self.take();
                let at = self.at_time()?;
                let modifiers = modifiers_of(&mut expr).ok_or_else(|| misplaced(span, "@ modifier"))?;
                if modifiers.at.is_some() {
                    return Err((token.span, "@ <timestamp> may not be set multiple times".into()));
                }
                modifiers.at = Some(at);
                expr.span.end = self.span_from(0).end;
            } else if ["anchored", "smoothed"].iter().any(|keyword| self.is_keyword(token, keyword)) {
                return Err((token.span, format!("not supported yet: the modifier {}", self.slice(token))));
            } else {
                return if height > HEIGHT_MAX { Err((expr.span, too_high())) } else { Ok((expr, height)) };
            }
        }
    }

    fn at_time(&mut self) -> Result<At, Refusal> {
        for (keyword, at) in [("start", At::Start), ("end", At::End)] {
            if self.accept_keyword(keyword) {
                self.expect(TokenKind::LeftParen, "@ modifier")?;
                self.expect(TokenKind::RightParen, "@ modifier")?;
                return Ok(at);
            }
        }
        let start = self.peek().span.start;
        let negative = match self.peek().kind {
            TokenKind::Minus | TokenKind::Plus => self.take().kind == TokenKind::Minus,
            _ => false,
        };
        let seconds = self.number_or_duration("@, expected timestamp")?.0 * if negative { -1.0 } else { 1.0 };
        let t_ms = libm::round(seconds * 1000.0);
        if t_ms.is_nan() || libm::fabs(t_ms) >= i64::MAX as f64 {
            return Err((self.span_from(start), format!("timestamp out of bounds for @ modifier: {seconds}")));
        }
        Ok(At::Time(t_ms as i64))
    }

    /// Seconds, and whether they were written as a duration.
    fn number_or_duration(&mut self, context: &str) -> Result<(f64, bool), Refusal> {
        let token = self.peek();
        let text = self.slice(token);
        let found = match token.kind {
            TokenKind::Number => lex::number_value(text).map(|value| (value, false)),
            TokenKind::Word if is_number_word(text) => lex::number_value(text).map(|value| (value, false)),
            TokenKind::Duration => {
                let ms = lex::duration_ms(text).map_err(|reason| (token.span, reason))?;
                Some((ms as f64 / 1000.0, true))
            }
            _ => return Err(self.unexpected(token, context)),
        };
        self.take();
        found.ok_or_else(|| (token.span, format!("error parsing number: {text:?} is out of range")))
    }

    fn signed_duration_ms(&mut self, context: &str) -> Result<i64, Refusal> {
        let negative = match self.peek().kind {
            TokenKind::Minus | TokenKind::Plus => self.take().kind == TokenKind::Minus,
            _ => false,
        };
        let duration_ms = self.duration_ms(context)?;
        Ok(if negative { -duration_ms } else { duration_ms })
    }

    /// `5m`, or a number of seconds.
    fn duration_ms(&mut self, context: &str) -> Result<i64, Refusal> {
        let token = self.peek();
        let words = ["step", "range", "min", "max", "min_of", "max_of"];
        if token.kind == TokenKind::LeftParen || words.iter().any(|word| self.is_keyword(token, word)) {
            return Err((token.span, "not supported yet: duration expressions; write one duration such as 5m".into()));
        }
        let (seconds, _) = self.number_or_duration(context)?;
        // The bound of a duration in nanoseconds, as Prometheus has it.
        if seconds.is_nan() || libm::fabs(seconds) > 9_223_372_036.0 {
            return Err((token.span, "duration out of range".into()));
        }
        let next = self.peek();
        if context != "offset" && binary_symbol(next.kind).is_some() {
            return Err((next.span, "not supported yet: duration expressions; write one duration such as 5m".into()));
        }
        Ok(libm::round(seconds * 1000.0) as i64)
    }

    fn positive_duration_ms(&mut self, context: &str) -> Result<i64, Refusal> {
        let token = self.peek();
        let duration_ms = self.signed_duration_ms(context)?;
        if duration_ms <= 0 {
            return Err((token.span, "duration must be greater than 0".into()));
        }
        Ok(duration_ms)
    }

    /// `[5m]` or `[1h:1m]` behind `expr`.
    fn brackets(&mut self, expr: Expr) -> Result<Expr, Refusal> {
        let bracket = self.take();
        let range_ms = self.positive_duration_ms(RANGE)?;
        let start = expr.span.start;
        if self.accept(TokenKind::Colon) {
            let step_ms = match self.peek().kind {
                TokenKind::RightBracket => None,
                _ => Some(self.positive_duration_ms(RANGE)?),
            };
            self.expect(TokenKind::RightBracket, "subquery selector, expected \"]\"")?;
            let kind =
                ExprKind::Subquery { operand: Box::new(expr), range_ms, step_ms, modifiers: Modifiers::default() };
            return Ok(Expr { kind, span: self.span_from(start) });
        }
        self.expect(TokenKind::RightBracket, "subquery or range, expected \":\" or \"]\"")?;
        let span = self.span_from(start);
        let ExprKind::Selector(selector) = expr.kind else {
            return Err((bracket.span, "ranges only allowed for vector selectors".into()));
        };
        if selector.modifiers.offset_ms != 0 {
            return Err((bracket.span, "no offset modifiers allowed before range".into()));
        }
        if selector.modifiers.at.is_some() {
            return Err((bracket.span, "no @ modifiers allowed before range".into()));
        }
        Ok(Expr { kind: ExprKind::Matrix { selector, range_ms }, span })
    }

    fn primary(&mut self) -> Result<Parsed, Refusal> {
        let token = self.peek();
        let text = self.slice(token);
        let leaf = |kind| Ok((Expr { kind, span: token.span }, 1));
        match token.kind {
            TokenKind::Number | TokenKind::Duration => {
                let (value, duration) = self.number_or_duration("")?;
                leaf(ExprKind::Number { value, duration })
            }
            TokenKind::Text => {
                self.take();
                leaf(ExprKind::Text(unquote(text, token)?.into()))
            }
            TokenKind::LeftParen => {
                self.take();
                let (inner, height) = self.expression(0)?;
                self.expect(TokenKind::RightParen, "")?;
                let span = self.span_from(token.span.start);
                Ok((Expr { kind: ExprKind::Paren(Box::new(inner)), span }, height + 1))
            }
            TokenKind::LeftBrace => self.selector(None),
            TokenKind::Word => self.word_expression(token, text),
            _ => Err(self.unexpected(token, "")),
        }
    }

    fn word_expression(&mut self, token: Token, text: &'t str) -> Result<Parsed, Refusal> {
        let lower = text.to_ascii_lowercase();
        let next = self.peek_second();
        let aggregate = AggregateOp::ALL.iter().find(|(_, name)| *name == lower);
        let opens_aggregate =
            next.kind == TokenKind::LeftParen || ["by", "without"].iter().any(|word| self.is_keyword(next, word));
        if is_number_word(text) && next.kind != TokenKind::LeftParen && next.kind != TokenKind::LeftBrace {
            let (value, duration) = self.number_or_duration("")?;
            return Ok((Expr { kind: ExprKind::Number { value, duration }, span: token.span }, 1));
        }
        if let (Some((op, _)), true) = (aggregate, opens_aggregate) {
            self.take();
            return self.aggregate(*op, token);
        }
        if later::AGGREGATIONS.contains(&lower.as_str()) && opens_aggregate {
            return Err((token.span, format!("not supported yet: the aggregation {lower}")));
        }
        if next.kind == TokenKind::LeftParen && !NOT_CALLED.contains(&lower.as_str()) {
            return self.call(token, text);
        }
        if NOT_METRICS.contains(&lower.as_str()) {
            return Err(self.unexpected(token, ""));
        }
        self.take();
        self.selector(Some((text, token)))
    }

    fn arguments(&mut self, context: &str) -> Result<(Vec<Expr>, usize), Refusal> {
        self.expect(TokenKind::LeftParen, context)?;
        let (mut arguments, mut height) = (Vec::new(), 0);
        if self.accept(TokenKind::RightParen) {
            return Ok((arguments, height));
        }
        loop {
            let (argument, argument_height) = self.expression(0)?;
            arguments.push(argument);
            height = height.max(argument_height);
            let token = self.take();
            match token.kind {
                TokenKind::RightParen => return Ok((arguments, height)),
                TokenKind::Comma if self.peek().kind == TokenKind::RightParen => {
                    return Err((token.span, "trailing commas not allowed in function call args".into()));
                }
                TokenKind::Comma => {}
                _ => return Err(self.unexpected(token, "")),
            }
        }
    }

    fn call(&mut self, token: Token, name: &str) -> Result<Parsed, Refusal> {
        self.take();
        let (arguments, height) = self.arguments("function call")?;
        let Some(function) = functions::find(name) else {
            let message = match later::FUNCTIONS.contains(&name) {
                true => format!("not supported yet: the function {name}"),
                false => format!("unknown function with name {}", Quoted(name)),
            };
            return Err((token.span, message));
        };
        let span = self.span_from(token.span.start);
        Ok((Expr { kind: ExprKind::Call(Call { function, arguments }), span }, height + 1))
    }

    fn aggregate(&mut self, op: AggregateOp, token: Token) -> Result<Parsed, Refusal> {
        let mut modifier = self.aggregate_modifier()?;
        let (mut arguments, height) = self.arguments("aggregation")?;
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
        }
        let span = self.span_from(token.span.start);
        let wanted = 1 + usize::from(op.parameter_type().is_some());
        if arguments.is_empty() {
            return Err((span, "no arguments for aggregate expression provided".into()));
        }
        if arguments.len() != wanted {
            let found = arguments.len();
            return Err((
                span,
                format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {found}"),
            ));
        }
        let operand = arguments.remove(wanted - 1);
        let (without, grouping) = modifier.unwrap_or_default();
        let aggregate = Aggregate { op, parameter: arguments.pop(), operand, grouping, without };
        Ok((Expr { kind: ExprKind::Aggregate(Box::new(aggregate)), span }, height + 1))
    }

    fn aggregate_modifier(&mut self) -> Result<Option<Grouping>, Refusal> {
        let without = self.is_keyword(self.peek(), "without");
        if !without && !self.is_keyword(self.peek(), "by") {
            return Ok(None);
        }
        self.take();
        Ok(Some((without, self.label_list()?)))
    }

    /// `(a, b,)`: names, keywords, or quoted texts.
    fn label_list(&mut self) -> Result<Vec<Box<str>>, Refusal> {
        const CONTEXT: &str = "grouping opts, expected \"(\"";
        self.expect(TokenKind::LeftParen, CONTEXT)?;
        let mut labels = Vec::new();
        while !self.accept(TokenKind::RightParen) {
            let token = self.take();
            let text = self.slice(token);
            match token.kind {
                TokenKind::Word => labels.push(text.into()),
                TokenKind::Text => {
                    let name = unquote(text, token)?;
                    if name.is_empty() {
                        return Err((token.span, format!("invalid label name {text} in grouping opts")));
                    }
                    labels.push(name.into());
                }
                _ => return Err(self.unexpected(token, "grouping opts, expected label")),
            }
            if !self.accept(TokenKind::Comma) && self.peek().kind != TokenKind::RightParen {
                return Err(self.unexpected(self.peek(), "grouping opts, expected \",\" or \")\""));
            }
        }
        Ok(labels)
    }

    /// `name{matchers}` with either part left out; the name has been taken.
    fn selector(&mut self, name: Option<(&str, Token)>) -> Result<Parsed, Refusal> {
        let start = name.map_or(self.peek().span.start, |(_, token)| token.span.start);
        let name = name.map(|(text, _)| text);
        let (mut matchers, mut quoted_names) = (Vec::new(), Vec::new());
        if self.accept(TokenKind::LeftBrace) {
            while !self.accept(TokenKind::RightBrace) {
                self.matcher(&mut matchers, &mut quoted_names)?;
                if !self.accept(TokenKind::Comma) && self.peek().kind != TokenKind::RightBrace {
                    return Err(self.unexpected(self.peek(), "label matching, expected \",\" or \"}\""));
                }
            }
        }
        matchers.append(&mut quoted_names);
        let span = self.span_from(start);
        if let Some(name) = name {
            if let Some(other) = matchers.iter().find(|matcher: &&Matcher| &*matcher.name == NAME) {
                let message =
                    format!("metric name must not be set twice: {} or {}", Quoted(name), Quoted(&other.value));
                return Err((span, message));
            }
            matchers.push(matcher(NAME, MatchOp::Equal, name, span)?);
        }
        let selector = Selector { matchers, name_is_in_front: name.is_some(), modifiers: Modifiers::default() };
        Ok((Expr { kind: ExprKind::Selector(selector), span }, 1))
    }

    fn matcher(&mut self, matchers: &mut Vec<Matcher>, quoted_names: &mut Vec<Matcher>) -> Result<(), Refusal> {
        let token = self.take();
        let name = match token.kind {
            TokenKind::Word => self.slice(token).into(),
            TokenKind::Text => unquote(self.slice(token), token)?,
            _ => return Err(self.unexpected(token, "label matching, expected identifier or \"}\"")),
        };
        let op_token = self.peek();
        let op = match op_token.kind {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::NotEqual => MatchOp::NotEqual,
            TokenKind::EqualRegexp => MatchOp::Regexp,
            TokenKind::NotEqualRegexp => MatchOp::NotRegexp,
            // A quoted name alone is the metric's.
            TokenKind::Comma | TokenKind::RightBrace if token.kind == TokenKind::Text => {
                quoted_names.push(matcher(NAME, MatchOp::Equal, &name, token.span)?);
                return Ok(());
            }
            _ => return Err(self.unexpected(op_token, "label matching, expected label matching operator")),
        };
        self.take();
        let value_token = self.peek();
        if value_token.kind != TokenKind::Text {
            if value_token.kind == TokenKind::Word {
                let word = Quoted(self.slice(value_token));
                let message = format!("unexpected identifier {word} in label matching, expected string");
                return Err((value_token.span, message));
            }
            return Err(self.unexpected(value_token, "label matching, expected string"));
        }
        self.take();
        let value = unquote(self.slice(value_token), value_token)?;
        if name.is_empty() {
            return Err((token.span, "invalid label name \"\"".into()));
        }
        matchers.push(matcher(&name, op, &value, self.span_from(token.span.start))?);
        Ok(())
    }
}

fn matcher(name: &str, op: MatchOp, value: &str, span: Span) -> Result<Matcher, Refusal> {
    Matcher::new(name, op, value).map_err(|error| (span, format!("{error}")))
}

fn unquote(text: &str, token: Token) -> Result<String, Refusal> {
    lex::unquote(text).map_err(|reason| (token.span, reason))
}

fn misplaced(span: Span, what: &str) -> Refusal {
    let message =
        format!("{what} must be preceded by an instant vector selector or range vector selector or a subquery");
    (span, message)
}

fn too_high() -> String {
    format!("the expression is nested more than {HEIGHT_MAX} deep; split it with recording rules")
}

fn modifiers_of(expr: &mut Expr) -> Option<&mut Modifiers> {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => Some(&mut selector.modifiers),
        ExprKind::Subquery { modifiers, .. } => Some(modifiers),
        _ => None,
    }
}

fn is_number_word(text: &str) -> bool {
    text.eq_ignore_ascii_case("inf") || text.eq_ignore_ascii_case("nan")
}

const RANGE: &str = "subquery or range selector, expected number, duration, step(), or range()";

/// Words that are neither names of functions nor of aggregations when a parenthesis follows.
const NOT_CALLED: [&str; 11] =
    ["on", "ignoring", "bool", "group_left", "group_right", "and", "or", "unless", "atan2", "by", "without"];

/// Keywords that cannot be a metric's name without quotes.
const NOT_METRICS: [&str; 8] = ["on", "ignoring", "bool", "group_left", "group_right", "atan2", "inf", "nan"];

const KEYWORDS: [&str; 8] = ["offset", "by", "without", "on", "ignoring", "group_left", "group_right", "bool"];

fn binary_word(lower: &str) -> Option<BinaryOp> {
    match lower {
        "or" => Some(BinaryOp::Or),
        "and" => Some(BinaryOp::And),
        "unless" => Some(BinaryOp::Unless),
        "atan2" => Some(BinaryOp::Atan2),
        _ => None,
    }
}

fn binary_symbol(kind: TokenKind) -> Option<BinaryOp> {
    Some(match kind {
        TokenKind::Plus => BinaryOp::Add,
        TokenKind::Minus => BinaryOp::Subtract,
        TokenKind::Star => BinaryOp::Multiply,
        TokenKind::Slash => BinaryOp::Divide,
        TokenKind::Percent => BinaryOp::Modulo,
        TokenKind::Caret => BinaryOp::Power,
        TokenKind::Equal => BinaryOp::Equal,
        TokenKind::NotEqual => BinaryOp::NotEqual,
        TokenKind::LessOrEqual => BinaryOp::LessOrEqual,
        TokenKind::Less => BinaryOp::Less,
        TokenKind::GreaterOrEqual => BinaryOp::GreaterOrEqual,
        TokenKind::Greater => BinaryOp::Greater,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
