"""The language server, asked by a real client over stdio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("pygls", reason="the language server is an extra: pip install 'nasdsl[lsp]'")

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

URI = "file:///tmp/edited.nas"
GOOD = """space edited {
  doc "Größe 🙂"  # a comment with 🙂
  param C = 8
  input image(3, 16)
  op block(k; C) = relu >> conv(k, C) >> bn
  cell c(x; C) {
    n[1..2] = sum of choose 1.. from (x, earlier) via choose { block(3), block(1) }
    return n[2]
  }
  network {
    stem: conv(3, C)
    body: c
    head: global_pool >> linear(10)
  }
}
"""


class Client:
    """An editor that keeps what the server published."""

    def __init__(self) -> None:
        self.client = LanguageClient("tests", "1")
        self.published: asyncio.Queue[lsp.PublishDiagnosticsParams] = asyncio.Queue()
        self.version = 1

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def note(params: lsp.PublishDiagnosticsParams) -> None:
            self.published.put_nowait(params)

    async def open(self, text: str) -> list[lsp.Diagnostic]:
        await self.client.start_io(sys.executable, "-m", "nasdsl", "lsp")
        await self.client.initialize_async(lsp.InitializeParams(capabilities=lsp.ClientCapabilities()))
        self.client.initialized(lsp.InitializedParams())
        item = lsp.TextDocumentItem(URI, "nas", 1, text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
        return await self.diagnostics()

    async def change(self, text: str) -> list[lsp.Diagnostic]:
        self.version += 1
        document = lsp.VersionedTextDocumentIdentifier(self.version, URI)
        whole = lsp.TextDocumentContentChangeWholeDocument(text)
        self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(document, [whole]))
        return await self.diagnostics()

    async def diagnostics(self) -> list[lsp.Diagnostic]:
        params = await asyncio.wait_for(self.published.get(), 30)
        return list(params.diagnostics)

    async def close(self) -> None:
        await asyncio.wait_for(self.client.shutdown_async(None), 30)
        self.client.exit(None)
        await self.client.stop()


def session(action: Callable[[Client], Awaitable[None]]) -> None:
    async def whole() -> None:
        client = Client()
        try:
            await action(client)
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(whole(), 90))


def at(text: str, word: str, nth: int = 0) -> lsp.Position:
    """The position of a word, in UTF-16 units."""
    offset = -1
    for _ in range(nth + 1):
        offset = text.index(word, offset + 1)
    line = text.count("\n", 0, offset)
    start = text.rfind("\n", 0, offset) + 1
    return lsp.Position(line, len(text[start:offset].encode("utf-16-le")) // 2)


ME = lsp.TextDocumentIdentifier(URI)


def test_a_mistake_is_shown_where_it_is_and_goes_when_it_is_mended() -> None:
    async def action(client: Client) -> None:
        broken = GOOD.replace("block(3)", "blok(3)")
        (found,) = [d for d in await client.open(broken) if d.severity is lsp.DiagnosticSeverity.Error]
        assert (found.code, found.source) == ("NAS101", "nasdsl")
        assert "block" in found.message
        assert found.range.start == at(broken, "blok")
        assert await client.change(GOOD) == []
        for half in ("space", "space s {", GOOD[:150], "", "🙂" * 50):
            assert all(isinstance(d, lsp.Diagnostic) for d in await client.change(half))
        assert await client.change(GOOD) == []

    session(action)


def test_columns_after_letters_outside_the_basic_plane() -> None:
    async def action(client: Client) -> None:
        text = GOOD.replace('"Größe 🙂"', '"Größe 🙂" parm')
        found = await client.open(text)
        assert found[0].range.start == at(text, "parm")

    session(action)


def test_hover_definition_completion_symbols_and_format() -> None:
    async def action(client: Client) -> None:
        assert await client.open(GOOD) == []
        ask: Any = client.client

        async def hover(word: str, nth: int = 0) -> str:
            found = await ask.text_document_hover_async(lsp.HoverParams(ME, at(GOOD, word, nth)))
            return found.contents.value if found else ""

        assert "16 encodings" in await hover("edited")
        cell = await hover("c(x")
        assert "8 x 16 x 16 -> 8 x 16 x 16" in cell
        assert "16 encodings" in cell
        assert "op block(k; C)" in await hover("block", 1)
        assert "convolution" in await hover("conv(k")
        assert "here 8" in await hover("C)", 3)
        place = await ask.text_document_definition_async(lsp.DefinitionParams(ME, at(GOOD, "block", 1)))
        assert (place.uri, place.range.start) == (URI, at(GOOD, "block"))
        words = await ask.text_document_completion_async(lsp.CompletionParams(ME, at(GOOD, "k, C)")))
        labels = {w.label for w in words}
        assert {"block", "c", "C", "conv", "choose", "sep_conv", "out=", "stride="} <= labels
        symbols = await ask.text_document_document_symbol_async(lsp.DocumentSymbolParams(ME))
        assert [s.name for s in symbols] == ["C", "block", "c"]
        options = lsp.FormattingOptions(2, True)
        assert list(await ask.text_document_formatting_async(lsp.DocumentFormattingParams(ME, options))) == []
        messy = GOOD.replace("param C = 8", "param    C=8")
        await client.change(messy)
        (edit,) = await ask.text_document_formatting_async(lsp.DocumentFormattingParams(ME, options))
        assert edit.new_text == GOOD

    session(action)
