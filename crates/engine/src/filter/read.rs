//! From CEL's syntax tree to an [`Expression`], or to what is wrong and where.
//!
//! Promise: whatever is not in the list of [`super`] is refused with the node at fault, so that
//! evaluation knows no surprises; the bounds on nodes and depth hold. Texts become trees by the quick
//! parser of the `cel` crate, which does not tell where things stand; for that, and only for a
//! refusal, the crate's thorough parser reads the text again.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::parser::{Parser, PrattParser};
use domain::limits::FILTER_BYTES_MAX;
use serde_json::Value as Json;

use super::expression::{
    Calculation, Comparison, Conversion, DEPTH_MAX, Expression, NODES_MAX, Quantifier, TextTest,
};
use super::pattern::{Pattern, PatternsLeft};
use super::{FilterError, Position};

/// Deepest nesting of parentheses that a parser follows; the tree itself has its own bound.
const PARENTHESES_MAX: u16 = 32;

/// What the names of a filter are.
const NAMES: &str = "`data`, `type` and `entity_ids`";

/// What may be called.
const FUNCTIONS: &str = "`has`, `size`, `contains`, `startsWith`, `endsWith`, `matches`, `exists`, \
                         `all`, `exists_one`, `int`, `double` and `string`";

/// Reads a condition.
pub(super) fn read(text: &str) -> Result<Expression, FilterError> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(FilterError::anywhere(format!("has more than {FILTER_BYTES_MAX} bytes")));
    }
    if text.trim().is_empty() {
        return Err(FilterError::anywhere("is empty; null means no filter"));
    }
    let tree = PrattParser::new()
        .max_recursion_depth(PARENTHESES_MAX)
        .enable_ident_escape_syntax(true)
        .parse(text)
        .map_err(|errors| {
            let first = errors.errors.into_iter().next();
            first.map_or_else(
                || FilterError::anywhere("is not a CEL expression"),
                |error| FilterError {
                    position: Position::of_parser(text, error.pos),
                    reason: plain(&error.msg),
                },
            )
        })?;
    lower(&tree).map_err(|wrong| FilterError { position: locate(text), reason: wrong.reason })
}

/// Where a text that is a CEL expression, but no filter, goes wrong.
fn locate(text: &str) -> Option<Position> {
    let parser =
        Parser::new().max_recursion_depth(PARENTHESES_MAX).enable_ident_escape_syntax(true);
    let (tree, places) = parser.parse_with_source_info(text).ok()?;
    let node = lower(&tree).err()?.node?;
    let (start, _) = places.offset_for(node)?;
    Some(Position::of_byte(text, start as usize))
}

/// A parser's message in plain words.
fn plain(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    if message.contains("'<EOF>' expecting") {
        return "ends where a value is needed".to_owned();
    }
    if message.contains("recursion limit") {
        return "is nested too deep".to_owned();
    }
    match message
        .strip_prefix("mismatched input '")
        .and_then(|rest| rest.rsplit_once("' expecting"))
    {
        Some(("=", _)) => "`=` does not compare; use `==`".to_owned(),
        Some(("&", _)) => "use `&&`".to_owned(),
        Some(("|", _)) => "use `||`".to_owned(),
        Some((found, _)) => format!("`{found}` does not belong here"),
        None => message.to_owned(),
    }
}

/// Something that is no part of a filter.
struct Wrong {
    node: Option<u64>,
    reason: String,
}

fn wrong<T>(node: &IdedExpr, reason: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { node: Some(node.id).filter(|id| *id != 0), reason: reason.into() })
}

fn lower(tree: &IdedExpr) -> Result<Expression, Wrong> {
    let mut reader =
        Reader { nodes: 0, depth: 0, element: None, patterns: PatternsLeft::default() };
    reader.condition(tree)
}

/// The kinds that are known without an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Truth,
    Number,
    Text,
    Other,
}

struct Reader<'a> {
    nodes: usize,
    depth: usize,
    /// What the quantifier around calls its element.
    element: Option<&'a str>,
    patterns: PatternsLeft,
}

impl<'a> Reader<'a> {
    /// An expression that can be true or false.
    fn condition(&mut self, node: &'a IdedExpr) -> Result<Expression, Wrong> {
        let expression = self.expression(node)?;
        match kind_of(&expression) {
            None | Some(Kind::Truth) => Ok(expression),
            Some(_) => wrong(
                node,
                format!("`{expression}` is neither true nor false; compare it with something"),
            ),
        }
    }

    fn expression(&mut self, node: &'a IdedExpr) -> Result<Expression, Wrong> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return wrong(node, format!("has more than {NODES_MAX} parts"));
        }
        if self.depth >= DEPTH_MAX {
            return wrong(node, "is nested too deep");
        }
        self.depth += 1;
        let expression = self.expression_within(node);
        self.depth -= 1;
        expression
    }

    fn boxed(&mut self, node: &'a IdedExpr) -> Result<Box<Expression>, Wrong> {
        self.expression(node).map(Box::new)
    }

    fn expression_within(&mut self, node: &'a IdedExpr) -> Result<Expression, Wrong> {
        match &node.expr {
            Expr::Literal(literal) => match constant(literal) {
                Some(constant) => Ok(Expression::Constant(constant)),
                None => wrong(node, "bytes are not in JSON; write a string"),
            },
            Expr::Ident(name) => self.name(node, name),
            Expr::Select(select) => {
                let (of, name) = (self.boxed(&select.operand)?, select.field.as_str().into());
                let is_without = |kind| matches!(kind, Kind::Truth | Kind::Number | Kind::Text);
                if kind_of(&of).is_some_and(is_without) {
                    return wrong(node, format!("`{of}` has no members"));
                }
                Ok(if select.test {
                    Expression::Has(of, name)
                } else {
                    Expression::Member(of, name)
                })
            }
            Expr::Call(call) => self.call(node, call),
            Expr::List(list) => {
                if !list.optional_indices.is_empty() {
                    return wrong(node, "optional elements are not available");
                }
                let mut elements = Vec::with_capacity(list.elements.len());
                for element in &list.elements {
                    match self.expression(element)? {
                        Expression::Constant(constant) if !constant.is_array() => {
                            elements.push(constant);
                        }
                        other => {
                            return wrong(
                                element,
                                format!("`{other}` is in a list, which may hold plain values only"),
                            );
                        }
                    }
                }
                Ok(Expression::Constant(elements.into()))
            }
            Expr::Comprehension(comprehension) => self.quantified(node, comprehension),
            Expr::Map(_) | Expr::Struct(_) => {
                wrong(node, "an object cannot be written in a filter")
            }
            Expr::Unspecified => wrong(node, "is not a CEL expression"),
        }
    }

    fn name(&self, node: &IdedExpr, name: &'a str) -> Result<Expression, Wrong> {
        match name {
            name if self.element == Some(name) => Ok(Expression::Element(name.into())),
            "data" => Ok(Expression::Data),
            "type" => Ok(Expression::EventType),
            "entity_ids" => Ok(Expression::EntityIds),
            other => wrong(
                node,
                format!(
                    "`{other}` is not a name here; there are {NAMES}, so perhaps `data.{other}`"
                ),
            ),
        }
    }

    fn call(&mut self, node: &'a IdedExpr, call: &'a CallExpr) -> Result<Expression, Wrong> {
        let args = call.args.as_slice();
        match (call.func_name.as_str(), call.target.as_deref(), args) {
            (operators::LOGICAL_AND, None, [_, _]) => {
                let mut parts = Vec::new();
                self.flatten(operators::LOGICAL_AND, node, &mut parts)?;
                Ok(Expression::Every(parts))
            }
            (operators::LOGICAL_OR, None, [_, _]) => {
                let mut parts = Vec::new();
                self.flatten(operators::LOGICAL_OR, node, &mut parts)?;
                Ok(Expression::Any(parts))
            }
            (operators::LOGICAL_NOT, None, [of]) => {
                Ok(Expression::Not(Box::new(self.condition(of)?)))
            }
            (operators::NEGATE, None, [of]) => {
                Ok(Expression::Negative(self.of_kind(of, Kind::Number, "a number")?))
            }
            (operators::CONDITIONAL, None, [condition, yes, no]) => Ok(Expression::Choose(
                Box::new(self.condition(condition)?),
                self.boxed(yes)?,
                self.boxed(no)?,
            )),
            (operators::INDEX, None, [of, at]) => {
                Ok(Expression::Index(self.boxed(of)?, self.boxed(at)?))
            }
            (operators::IN, None, [needle, hay]) => {
                let (needle, hay) = (self.boxed(needle)?, self.boxed(hay)?);
                match kind_of(&hay) {
                    None | Some(Kind::Other) => Ok(Expression::In(needle, hay)),
                    Some(_) => wrong(node, format!("nothing is `in` `{hay}`, which is no list")),
                }
            }
            ("size", None, [of]) | ("size", Some(of), []) => Ok(Expression::Size(self.boxed(of)?)),
            ("matches", Some(of), [pattern]) | ("matches", None, [of, pattern]) => {
                let of = self.of_kind(of, Kind::Text, "a string")?;
                match self.expression(pattern)? {
                    Expression::Constant(Json::String(text)) => {
                        match Pattern::read(&text, &mut self.patterns) {
                            Ok(pattern) => Ok(Expression::Matches(of, Box::new(pattern))),
                            Err(reason) => wrong(pattern, reason),
                        }
                    }
                    other => {
                        wrong(pattern, format!("a pattern is a plain string, and `{other}` is not"))
                    }
                }
            }
            (name, target, args) => self.other_call(node, name, target, args),
        }
    }

    fn other_call(
        &mut self,
        node: &'a IdedExpr,
        name: &str,
        target: Option<&'a IdedExpr>,
        args: &'a [IdedExpr],
    ) -> Result<Expression, Wrong> {
        if let (Some(test), Some(of), [part]) = (TextTest::spelled(name), target, args) {
            let of = self.of_kind(of, Kind::Text, "a string")?;
            return Ok(Expression::Text(test, of, self.of_kind(part, Kind::Text, "a string")?));
        }
        if let (Some(to), None, [of]) = (Conversion::spelled(name), target, args) {
            return Ok(Expression::Convert(to, self.boxed(of)?));
        }
        let operator = name.strip_prefix('_').and_then(|name| name.strip_suffix('_'));
        if let (Some(operator), None, [a, b]) = (operator, target, args) {
            if let Some(how) = Comparison::spelled(operator) {
                return self.comparison(node, how, a, b);
            }
            if let Some(how) = Calculation::spelled(operator) {
                return self.calculation(node, how, a, b);
            }
        }
        let is_known = ["has", "size", "matches", "existsOne"].contains(&name)
            || Quantifier::spelled(name).is_some()
            || TextTest::spelled(name).is_some()
            || Conversion::spelled(name).is_some();
        if is_known {
            return wrong(node, format!("`{name}` is not called so: `{}`", usage(name)));
        }
        wrong(node, format!("`{}` is not available; there are {FUNCTIONS}", shown(name)))
    }

    fn comparison(
        &mut self,
        node: &'a IdedExpr,
        how: Comparison,
        a: &'a IdedExpr,
        b: &'a IdedExpr,
    ) -> Result<Expression, Wrong> {
        let (a, b) = (self.boxed(a)?, self.boxed(b)?);
        let (left, right) = (kind_of(&a), kind_of(&b));
        let cannot = |kind| matches!(kind, Some(Kind::Other));
        let differ = left.zip(right).is_some_and(|(left, right)| left != right);
        if how.is_order() && (differ || cannot(left) || cannot(right)) {
            let how = how.spelling();
            return wrong(node, format!("`{how}` cannot compare `{a}` with `{b}`"));
        }
        Ok(Expression::Compare(how, a, b))
    }

    fn calculation(
        &mut self,
        node: &'a IdedExpr,
        how: Calculation,
        a: &'a IdedExpr,
        b: &'a IdedExpr,
    ) -> Result<Expression, Wrong> {
        let (a, b) = (self.boxed(a)?, self.boxed(b)?);
        let fits = |kind: Option<Kind>| match kind {
            None | Some(Kind::Number) => true,
            Some(Kind::Text) => how == Calculation::Add,
            Some(_) => false,
        };
        let (left, right) = (kind_of(&a), kind_of(&b));
        let differ = left.zip(right).is_some_and(|(left, right)| left != right);
        if differ || !fits(left) || !fits(right) {
            let how = how.spelling();
            return wrong(node, format!("`{how}` cannot be done with `{a}` and `{b}`"));
        }
        Ok(Expression::Calculate(how, a, b))
    }

    fn of_kind(
        &mut self,
        node: &'a IdedExpr,
        wanted: Kind,
        name: &str,
    ) -> Result<Box<Expression>, Wrong> {
        let expression = self.boxed(node)?;
        if kind_of(&expression).is_some_and(|kind| kind != wanted) {
            return wrong(node, format!("`{expression}` stands where {name} is needed"));
        }
        Ok(expression)
    }

    /// `a && b && c` as one list, whatever tree the parser made of it.
    fn flatten(
        &mut self,
        operator: &str,
        node: &'a IdedExpr,
        parts: &mut Vec<Expression>,
    ) -> Result<(), Wrong> {
        if let Expr::Call(call) = &node.expr
            && call.func_name == operator
            && let [a, b] = call.args.as_slice()
        {
            self.flatten(operator, a, parts)?;
            return self.flatten(operator, b, parts);
        }
        parts.push(self.condition(node)?);
        Ok(())
    }

    /// What the parser makes of `exists`, `all` and `exists_one`.
    fn quantified(
        &mut self,
        node: &'a IdedExpr,
        comprehension: &'a ComprehensionExpr,
    ) -> Result<Expression, Wrong> {
        let Some((quantifier, condition)) = quantifier_of(comprehension) else {
            return wrong(node, "`map` and `filter` are not available; use `exists` or `all`");
        };
        if self.element.is_some() {
            return wrong(node, format!("`{}` stands within another one", quantifier.spelling()));
        }
        let of = self.boxed(&comprehension.iter_range)?;
        if kind_of(&of).is_some_and(|kind| kind != Kind::Other) {
            return wrong(node, format!("`{of}` has no elements"));
        }
        let name = comprehension.iter_var.as_str();
        self.element = Some(name);
        let condition = self.condition(condition);
        self.element = None;
        Ok(Expression::Quantified(quantifier, of, name.into(), Box::new(condition?)))
    }
}

/// What is asked of how many elements, in the expansions that the `cel` crate has for it: `all` folds
/// with `&&`, `exists` with `||`, and `exists_one` counts.
fn quantifier_of(comprehension: &ComprehensionExpr) -> Option<(Quantifier, &IdedExpr)> {
    let Expr::Call(step) = &comprehension.loop_step.expr else { return None };
    let Expr::Literal(start) = &comprehension.accu_init.expr else { return None };
    match (step.func_name.as_str(), start, step.args.as_slice()) {
        (operators::LOGICAL_OR, LiteralValue::Boolean(_), [_, condition]) => {
            Some((Quantifier::Exists, condition))
        }
        (operators::LOGICAL_AND, LiteralValue::Boolean(_), [_, condition]) => {
            Some((Quantifier::All, condition))
        }
        (operators::CONDITIONAL, LiteralValue::Int(_), [condition, _, _]) => {
            Some((Quantifier::ExactlyOne, condition))
        }
        _ => None,
    }
}

fn constant(literal: &LiteralValue) -> Option<Json> {
    Some(match literal {
        LiteralValue::Null => Json::Null,
        LiteralValue::Boolean(bool) => (*bool.inner()).into(),
        LiteralValue::Int(whole) => (*whole.inner()).into(),
        LiteralValue::UInt(whole) => (*whole.inner()).into(),
        LiteralValue::Double(double) => (*double.inner()).into(),
        LiteralValue::String(text) => text.inner().into(),
        LiteralValue::Bytes(_) => return None,
    })
}

/// The kind of value an expression comes to, if that is known without an event.
fn kind_of(expression: &Expression) -> Option<Kind> {
    match expression {
        Expression::Constant(Json::Bool(_))
        | Expression::Has(..)
        | Expression::Not(_)
        | Expression::Every(_)
        | Expression::Any(_)
        | Expression::Compare(..)
        | Expression::In(..)
        | Expression::Text(..)
        | Expression::Matches(..)
        | Expression::Quantified(..) => Some(Kind::Truth),
        Expression::Constant(Json::Number(_))
        | Expression::Negative(_)
        | Expression::Size(_)
        | Expression::Convert(Conversion::Int | Conversion::Double, _) => Some(Kind::Number),
        Expression::Constant(Json::String(_))
        | Expression::EventType
        | Expression::Convert(Conversion::Text, _) => Some(Kind::Text),
        Expression::Constant(_) | Expression::Data | Expression::EntityIds => Some(Kind::Other),
        Expression::Calculate(_, a, b) => kind_of(a).or_else(|| kind_of(b)),
        Expression::Choose(_, yes, no) => {
            kind_of(yes).zip(kind_of(no)).filter(|(yes, no)| yes == no).map(|(kind, _)| kind)
        }
        Expression::Element(_) | Expression::Member(..) | Expression::Index(..) => None,
    }
}

/// How what is called wrongly is called.
fn usage(name: &str) -> String {
    match name {
        "has" => "has(data.member)".to_owned(),
        "size" => "size(data.list)".to_owned(),
        "int" | "double" | "string" => format!("{name}(data.member)"),
        "matches" => "data.text.matches(\"pattern\")".to_owned(),
        "exists" | "all" | "exists_one" | "existsOne" => {
            format!("data.list.{name}(element, element > 1)")
        }
        _ => format!("data.text.{name}(\"part\")"),
    }
}

/// A name of the caller's, or an operator's, as it is shown.
fn shown(name: &str) -> &str {
    match name {
        operators::OPT_INDEX => "[?]",
        operators::OPT_SELECT => ".?",
        name => name,
    }
}
