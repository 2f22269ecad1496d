"""The server: the protocol around `nasdsl.lsp.knowledge`, on pygls.

Takes requests over stdio, returns answers. Invariant: positions on the wire are UTF-16, as the
protocol has it by default; a half-written file is answered like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from nasdsl import __version__
from nasdsl.diagnostics import Diagnostic, Severity, Span
from nasdsl.errors import UserError
from nasdsl.lsp.knowledge import Document, read_document
from nasdsl.syntax import ast
from nasdsl.syntax.format import format_text

_ITEMS = {
    "keyword": lsp.CompletionItemKind.Keyword,
    "operation": lsp.CompletionItemKind.Function,
    "function": lsp.CompletionItemKind.Function,
    "parameter": lsp.CompletionItemKind.Variable,
    "name": lsp.CompletionItemKind.Variable,
    "cell": lsp.CompletionItemKind.Class,
    "set": lsp.CompletionItemKind.Enum,
    "constant": lsp.CompletionItemKind.Constant,
}
_SYMBOLS = {
    ast.Param: lsp.SymbolKind.Constant,
    ast.Bind: lsp.SymbolKind.Variable,
    ast.OpDef: lsp.SymbolKind.Function,
    ast.CellDef: lsp.SymbolKind.Class,
    ast.CellAlias: lsp.SymbolKind.Class,
    ast.SetDef: lsp.SymbolKind.Enum,
}


def make_server() -> LanguageServer:
    """A server with every feature registered."""
    server = LanguageServer("nasdsl", __version__)
    known: dict[str, Document] = {}

    def document(uri: str) -> Document:
        text = server.workspace.get_text_document(uri).source
        held = known.get(uri)
        if held is None or held.source.text != text:
            held = known[uri] = read_document(_path(uri), text)
        return held

    def publish(uri: str) -> None:
        found = document(uri)
        own = [_diagnostic(found, d, uri) for d in found.problems]
        server.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, own))

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: lsp.DidOpenTextDocumentParams) -> None:
        publish(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: lsp.DidChangeTextDocumentParams) -> None:
        publish(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: lsp.DidSaveTextDocumentParams) -> None:
        publish(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: lsp.DidCloseTextDocumentParams) -> None:
        known.pop(params.text_document.uri, None)

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hover(params: lsp.HoverParams) -> lsp.Hover | None:
        found = document(params.text_document.uri)
        text = found.hover(offset_of(found.source.text, params.position))
        return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text)) if text else None

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def definition(params: lsp.DefinitionParams) -> lsp.Location | None:
        found = document(params.text_document.uri)
        span = found.definition(offset_of(found.source.text, params.position))
        if span is None:
            return None
        uri = params.text_document.uri
        if span.source is not found.source:
            path = Path(span.source.name)
            if not path.is_absolute():
                return None
            uri = path.as_uri()
        return lsp.Location(uri, range_of(span))

    @server.feature(lsp.TEXT_DOCUMENT_COMPLETION)
    def completion(params: lsp.CompletionParams) -> Sequence[lsp.CompletionItem]:
        found = document(params.text_document.uri)
        words = found.suggestions(offset_of(found.source.text, params.position))
        return [lsp.CompletionItem(w.label, kind=_ITEMS[w.kind], detail=w.detail or None) for w in words]

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def symbols(params: lsp.DocumentSymbolParams) -> Sequence[lsp.DocumentSymbol]:
        found = document(params.text_document.uri)
        return [
            lsp.DocumentSymbol(i.name.text, kind, range_of(i.span), range_of(i.name.span))
            for i in (found.tree.items if found.tree is not None else ())
            if (kind := _SYMBOLS.get(type(i))) is not None
            and isinstance(i, (ast.Param, ast.Bind, ast.OpDef, ast.CellDef, ast.CellAlias, ast.SetDef))
            and i.span.source is found.source
        ]

    @server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    def formatting(params: lsp.DocumentFormattingParams) -> Sequence[lsp.TextEdit] | None:
        text = document(params.text_document.uri).source.text
        try:
            made = format_text(text)
        except UserError:
            return None
        lines = text.split("\n")
        end = lsp.Position(len(lines) - 1, _units(lines[-1]))
        return [] if made == text else [lsp.TextEdit(lsp.Range(lsp.Position(0, 0), end), made)]

    return server


def _path(uri: str) -> str:
    return unquote(urlparse(uri).path) or uri


def _units(text: str) -> int:
    """The length of a text in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def offset_of(text: str, position: lsp.Position) -> int:
    """The character that a position of the protocol means, clamped to the text."""
    lines = text.split("\n")
    if position.line >= len(lines):
        return len(text)
    start = sum(len(line) + 1 for line in lines[: position.line])
    line, units = lines[position.line], 0
    for index, character in enumerate(line):
        if units >= position.character:
            return start + index
        units += _units(character)
    return start + len(line)


def range_of(span: Span) -> lsp.Range:
    """A span as the protocol has it."""
    ends = []
    for offset in (span.start, span.end):
        line, column = span.source.line_column(offset)
        ends.append(lsp.Position(line - 1, _units(span.source.line(line)[: column - 1])))
    return lsp.Range(ends[0], ends[1])


def _diagnostic(document: Document, found: Diagnostic, uri: str) -> lsp.Diagnostic:
    primary = found.primary.span if found.primary is not None else Span(document.source, 0, 0)
    own = primary.source is document.source
    message = found.message + (
        f"\n{found.primary.message}" if found.primary is not None and found.primary.message else ""
    )
    message += "".join(f"\nnote: {n.message}" for n in found.notes) + (
        f"\nhelp: {found.help}" if found.help else ""
    )
    related = [
        lsp.DiagnosticRelatedInformation(lsp.Location(uri, range_of(label.span)), label.message or "see also")
        for label in found.secondary
        if label.span.source is document.source
    ]
    return lsp.Diagnostic(
        range_of(primary) if own else lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0)),
        message,
        severity=lsp.DiagnosticSeverity.Warning
        if found.severity is Severity.WARNING
        else lsp.DiagnosticSeverity.Error,
        code=found.code,
        source="nasdsl",
        related_information=related or None,
    )
