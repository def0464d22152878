"""The page of `basicsr app`: drop photographs, compare before and after, choose the strength, download.

Gradio is imported in `serve`, after its folder for uploads is set and its analytics are turned off.
"""

import html
import os
import shutil
import signal
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ggkm_plugin.app.workspace import RestoredPhotograph, Workspace
from ggkm_plugin.report.pictures import color_stops
from ggkm_plugin.restoration.image_io import FORMATS, READ_ONLY
from ggkm_plugin.restoration.strength import LARGEST
from ggkm_plugin.restoration.tiling import TileProgress
from ggkm_plugin.utils.devices import device_name, find_device
from ggkm_plugin.utils.errors import OptionError, UserError, listed
from ggkm_plugin.weights import DEFAULT, LIGHT

TITLE = 'Defocus deblurring'
_CSS = """
.gradio-container { width: 100% !important; max-width: 1400px !important; margin: auto; }
#title h1 { margin-bottom: 0; }
#download { display: none !important; }
#scale .bar { height: 10px; border-radius: 5px; }
#scale .ends { display: flex; justify-content: space-between; font-size: 0.85em; opacity: 0.75; }
#blur img { cursor: crosshair; }
"""
_CLICK = "() => { setTimeout(() => document.querySelector('#download').click(), 300); }"


class _Stopped(Exception):
    """The visitor pressed Stop."""


def serve(
    weights: str | None = None,
    device: str = 'auto',
    host: str = '127.0.0.1',
    port: int | None = None,
    share: bool = False,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Uploads and results lie in a temporary folder, which is removed at the end.

    Args:
        weights: a checkpoint that is offered beside the packaged weights.
        host: address to listen on.
        port: default: the first free one from 7860 on.
        share: also open a public link through Gradio's servers.
        ready: called with the address.

    Raises:
        OptionError: Gradio is missing, or the port is taken.
    """
    find_device(device)
    with tempfile.TemporaryDirectory(prefix='ggkm_app_') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder
        os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
        try:
            import gradio
        except ImportError:
            raise OptionError("the page needs Gradio. Install it: pip install 'ggkm_plugin[app]'") from None
        workspace = Workspace(folder, device)
        if weights:
            workspace.restorer(weights)  # so that an error comes before the page
        page = build(workspace, weights, private=not share and host == '127.0.0.1')
        font = ['system-ui', 'sans-serif']
        theme = gradio.themes.Soft(primary_hue='indigo', font=font, font_mono=['ui-monospace', 'monospace'])
        try:
            _, local, public = page.launch(
                server_name=host, server_port=port, share=share, quiet=True, prevent_thread_lock=True, show_error=True,
                ssr_mode=False, footer_links=[], allowed_paths=[folder], theme=theme, css=_CSS,
            )  # fmt: skip
        except OSError as error:
            raise OptionError(f'--port {port}: {error}. Choose another') from None
        try:
            ready(f'{local}{f" and, for everybody, {public}" if public else ""}')
            _wait()
        finally:
            page.close(verbose=False)


def _wait() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def build(workspace: Workspace, weights: str | None = None, private: bool = True) -> Any:
    """Build the page, a `gradio.Blocks`."""
    import gradio as gr

    choices = [('Light: fast', LIGHT), ('Full: best', DEFAULT)]
    choices += [(Path(weights).name, weights)] if weights else []
    kinds = sorted({*FORMATS, *READ_ONLY})
    promise = ' Photographs stay on this machine.' if private else ''
    device = find_device(workspace.device)
    stopped: set[str | None] = set()  # sessions whose run is to end at its next tile

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f'# {TITLE}\nSharpen what the lens left out of focus, with GGKMNet.{promise}', elem_id='title')
        restored = gr.State([], delete_callback=_forget)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                files = gr.File(label='Photographs', file_count='multiple', file_types=kinds, height=170)
                chosen = gr.Radio(choices, value=weights or LIGHT, label='Weights')
                with gr.Row():
                    start = gr.Button('Deblur', variant='primary', interactive=False, elem_id='start')
                    stop = gr.Button('Stop', variant='stop', interactive=False, elem_id='stop', min_width=80)
                name = gr.Dropdown([], label='Photograph', visible=False)
                strength = gr.Slider(
                    0, LARGEST, 1, step=0.05, label='Strength', interactive=False, elem_id='strength',
                    info='0: the photograph, 1: the result. Blurred regions change most.',
                )  # fmt: skip
                with gr.Row():
                    save = gr.Button('Download', interactive=False, elem_id='save')
                    save_all = gr.Button('Download all', visible=False, elem_id='save-all')
                download = gr.DownloadButton(elem_id='download')
                status = gr.Markdown(f'Device: {device_name(device)}', elem_id='status')
            with gr.Column(scale=3, min_width=500), gr.Tabs():
                with gr.Tab('Before and after'):
                    slider = gr.ImageSlider(
                        label='Before | after', type='filepath', interactive=False, max_height=760, height=640,
                        elem_id='slider', buttons=['fullscreen'],
                    )  # fmt: skip
                with gr.Tab('Blur map'), gr.Row():
                    with gr.Column(scale=3, min_width=400):
                        blur = gr.Image(
                            label='Radius of the blur: click for the PSF', interactive=False, elem_id='blur',
                            format='png', height=600, buttons=['download', 'fullscreen'],
                        )  # fmt: skip
                        scale = gr.HTML(elem_id='scale')
                    with gr.Column(scale=1, min_width=240):
                        psf = gr.Image(show_label=False, interactive=False, elem_id='psf', buttons=[])
                        psf_text = gr.Markdown('Click on the blur map.', elem_id='psf-text')

        shown = [slider, blur, scale, psf, psf_text, status]

        def show(found: list[RestoredPhotograph], which: int | None, amount: float) -> list[Any]:
            if which is None or which >= len(found):
                return [None, None, '', None, '', f'Device: {device_name(device)}']
            one = found[which]
            drawn = one.blur_picture()
            height, width = one.photograph.colors.shape[:2]
            facts = f'{html.escape(one.name)}: {width}x{height}, {one.seconds:.1f} s on {device_name(device)}'
            if drawn is None:
                return [one.pictures(amount), None, '', None, 'This network estimates no blur.', facts]
            return [one.pictures(amount), drawn[0], _color_bar(drawn[1]), None, 'Click on the blur map.', facts]

        def run(
            before: list[RestoredPhotograph],
            paths: list[str],
            kind: str,
            amount: float,
            request: gr.Request,
            report: Any = gr.Progress(),  # noqa: B008
        ) -> list[Any]:
            found, faults = [], []

            def check_stop() -> None:
                if request.session_hash in stopped:
                    raise _Stopped

            for index, path in enumerate(paths or []):
                head = f'{Path(path).name} ({index + 1} of {len(paths)})' if len(paths) > 1 else Path(path).name
                try:
                    show_tiles = _reporter(report, head, index, len(paths), check_stop)
                    found.append(workspace.restore(path, kind, show_tiles))
                except UserError as error:
                    faults.append(str(error).replace(path, Path(path).name))
                except _Stopped:
                    gr.Info('Stopped.')
                    break
            if faults:
                gr.Warning(listed(faults, 3))
            if not found:
                return [gr.skip()] * (5 + len(shown))
            _forget(before)
            several = len(found) > 1
            names = gr.Dropdown([(one.name, i) for i, one in enumerate(found)], value=0, visible=several)
            active = gr.update(interactive=True)
            return [found, names, active, active, gr.update(visible=several), *show(found, 0, amount)]

        def ask_to_stop(request: gr.Request) -> None:
            stopped.add(request.session_hash)

        def ended(paths: list[str], request: gr.Request) -> list[Any]:
            stopped.discard(request.session_hash)
            return [gr.Button(interactive=bool(paths)), gr.Button(interactive=False)]

        def adjust(found: list[RestoredPhotograph], which: int | None, amount: float) -> Any:
            return found[which or 0].pictures(amount) if found else None

        def point(found: list[RestoredPhotograph], which: int | None, event: gr.SelectData) -> list[Any]:
            one = found[which or 0]
            drawn, (column, row) = one.blur_picture(), event.index
            if drawn is None:
                return [None, None, '']
            x, y = one.place(column, row, drawn[0])
            picture = one.psf_picture(x, y)
            assert picture is not None
            text = (
                f'**PSF at ({x}, {y})**, logarithmic colors\n\n{picture[2]} x {picture[2]} pixels, radius '
                f'{picture[1]:.2f} pixels. Orange adds, blue subtracts.'
            )
            return [_marked(drawn[0], column, row), picture[0], text]

        def save_one(found: list[RestoredPhotograph], which: int | None, amount: float) -> str:
            path, lost = found[which or 0].save(amount)
            if lost:
                gr.Info(f'The file holds no {", ".join(lost)}.')
            return path

        def save_zip(found: list[RestoredPhotograph], amount: float) -> str:
            path = Path(tempfile.mkdtemp(dir=workspace.folder), 'deblurred.zip')
            with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
                for index, one in enumerate(found):
                    result = Path(one.save(amount)[0])
                    taken = result.name in archive.namelist()
                    archive.write(result, f'{result.stem}_{index}{result.suffix}' if taken else result.name)
            return str(path)

        quiet: Any = {'api_visibility': 'private', 'show_progress': 'hidden'}
        files.change(lambda paths: gr.Button(interactive=bool(paths)), files, start, **quiet)
        started = [gr.update(interactive=False), gr.update(interactive=True)]
        start.click(lambda: started, None, [start, stop], **quiet).then(
            run, [restored, files, chosen, strength], [restored, name, strength, save, save_all, *shown],
            api_visibility='private', show_progress_on=slider, concurrency_limit=1,
        ).then(ended, files, [start, stop], **quiet)  # fmt: skip
        stop.click(ask_to_stop, None, None, **quiet)
        name.input(show, [restored, name, strength], shown, **quiet)
        strength.change(adjust, [restored, name, strength], slider, trigger_mode='always_last', **quiet)
        blur.select(point, [restored, name], [blur, psf, psf_text], **quiet)
        save.click(save_one, [restored, name, strength], download, api_visibility='private').success(js=_CLICK)
        save_all.click(save_zip, [restored, strength], download, api_visibility='private').success(js=_CLICK)
    return page


def _forget(found: list[RestoredPhotograph]) -> None:
    """Remove the files of a visitor who has left."""
    for one in found:
        shutil.rmtree(one.folder, ignore_errors=True)


def _reporter(
    report: Any, head: str, index: int, count: int, check_stop: Callable[[], None]
) -> Callable[[TileProgress], None]:
    """Return a function that shows the tiles of one photograph out of `count` in Gradio's progress."""
    start = time.monotonic()

    def show(progress: TileProgress) -> None:
        check_stop()
        text = head
        if progress.total > 1:
            text += f': tile {progress.done} of {progress.total}'
        if progress.share > 0.02:
            left = (time.monotonic() - start) * (1 / progress.share - 1)
            text += f', {left // 60:.0f} min {left % 60:02.0f} s left'
        report((index + progress.share) / count, desc=text)

    return show


def _color_bar(most: float) -> str:
    """Return the scale of the blur map as HTML."""
    colors = ', '.join(color_stops(cv2.COLORMAP_VIRIDIS))
    ends = f'<div class="ends"><span>0, sharp</span><span>{most:.1f} pixels</span></div>'
    return f'<div class="bar" style="background: linear-gradient(to right, {colors})"></div>{ends}'


def _marked(picture: np.ndarray, x: int, y: int) -> np.ndarray:
    """Draw a ring around a place."""
    marked = picture.copy()
    size = max(6, max(picture.shape) // 90)
    for color, thickness in (((32, 33, 36), size // 2), ((255, 196, 0), size // 4)):
        cv2.circle(marked, (x, y), size, color, max(1, thickness), cv2.LINE_AA)
    return marked
