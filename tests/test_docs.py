"""Commands, option files and links in README and the documentation exist."""

import re
import shlex
from pathlib import Path

import pytest

from ggkm_plugin.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'ggkm_plugin/weights/README.md', *ROOT.glob('docs/**/*.md')]
)
PLACEHOLDERS = {'FILE'}


def commands(page):
    """The arguments of each `basicsr` command in the fenced blocks of a page."""
    for language, block in re.findall(
        r'^```(\w*)\n(.*?)^```', page.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE
    ):
        for line in block.replace('\\\n', ' ').splitlines() if language in ('', 'bash') else ():
            for part in re.split(r'&&|\|\|?|;', line.split(' #')[0]):
                words = shlex.split(part.replace('$(which basicsr)', 'basicsr'), comments=True)
                if 'basicsr' in words:
                    arguments = words[words.index('basicsr') + 1 :]
                    end = next((i for i, word in enumerate(arguments) if word in ('>', '2>&1')), None)
                    yield arguments[:end]


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_commands_of_a_page_parse_and_name_existing_option_files(page, capsys):
    parser = build_parser()
    for arguments in commands(page):
        if not arguments or arguments[0] not in COMMANDS:
            assert arguments[:1] in (['--version'], ['-h']), arguments
            continue
        try:
            options = parser.parse_args(arguments)
        except SystemExit:
            pytest.fail(f'{shlex.join(arguments)}\n{capsys.readouterr().err}')
        file = getattr(options, 'opt', None)
        if file and file not in PLACEHOLDERS and Path(file).stem not in page.read_text().replace(f'-opt {file}', ''):
            assert (ROOT / 'options' / f'{Path(file).stem}.yml').is_file(), file


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_links_of_a_page_lead_somewhere(page):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    links = re.findall(r'\]\(([^)\s]+)\)', text)
    files = [link.split('#')[0] for link in links if not re.match(r'https?://|#|mailto:', link)]
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_every_command_is_documented():
    used = {arguments[0] for page in PAGES for arguments in commands(page) if arguments}
    assert set(COMMANDS) - used == set()
