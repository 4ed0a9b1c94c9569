"""The server of the page: on this machine, for this machine, and nothing of it goes to another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mvsd.errors import MissingExtraError, MvsdError
from mvsd.example import SAMPLES
from mvsd.web.jobs import Limits, Models
from mvsd.web.listening import PAGE_CSS
from mvsd.workers import environment

_FONTS = ["Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]  # what the systems have
_MONO = ["Consolas", "Menlo", "DejaVu Sans Mono", "monospace"]
_DARKER = {  # so that white words on a button have the contrast that WCAG 2 AA wants
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_hover": "*primary_700",
}
_NO_TELEMETRY = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@contextmanager
def serving(
    models: Models,
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    open_browser: bool = False,
) -> Iterator[str]:
    """Serve the page while the block runs; gives its address. Uploads and results are gone afterwards.

    Raises MissingExtraError without Gradio, and MvsdError where host or port cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="mvsd-demo-") as folder:
        root = Path(folder).resolve()
        # Gradio asks its own server whether it is there; a proxy for the outside must not come between.
        direct = ",".join(
            filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy")), host, "localhost"])
        )
        names = {"GRADIO_TEMP_DIR": str(root), "NO_PROXY": direct, "no_proxy": direct}
        with environment(_NO_TELEMETRY | names):
            try:
                import gradio  # noqa: F401
            except ImportError:
                raise MissingExtraError("web", "gradio") from None
            from mvsd.web.page import build_page

            page = build_page(models, limits, root)
            with _only_uploads():
                try:
                    _launch(page, host, port, limits, open_browser)
                    yield str(page.local_url)
                finally:
                    page.close(verbose=False)


@contextmanager
def _only_uploads() -> Iterator[None]:
    """Gradio fetches addresses that it is given in place of a file, of any size; the page takes none."""
    import gradio
    from gradio import processing_utils

    async def refuse(*_: object, **__: object) -> str:
        raise gradio.Error("only uploaded files are taken", print_exception=False)

    fetch = processing_utils.async_ssrf_protected_download
    processing_utils.async_ssrf_protected_download = refuse
    try:
        yield
    finally:
        processing_utils.async_ssrf_protected_download = fetch


def _launch(page: Any, host: str, port: int, limits: Limits, open_browser: bool) -> None:
    import gradio as gr

    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            inbrowser=open_browser,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=limits.megabytes * 2**20,
            allowed_paths=[str(SAMPLES)],
            footer_links=[],
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=gr.themes.Default(primary_hue="blue", font=_FONTS, font_mono=_MONO).set(**_DARKER),
            css=PAGE_CSS,
        )
    except OSError as error:
        raise MvsdError(f"{host}:{port} cannot be used ({error}); choose another --host or --port") from error
