"""Tables of the GGKMNet paper from available checkpoints, with the paper's figures beside those measured here.

A cell of a table is a row under a column (the training set of Tables 4 and 5, the method of Tables 6, 7 and 11) and
belongs to one training: an option file, and a variant of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ggkm_plugin.evaluation import paper
from ggkm_plugin.evaluation.paper import FOOTNOTES, PaperRow, Rows
from ggkm_plugin.report.tables import Cell, Table, csv_text, fixed, write
from ggkm_plugin.studies.catalog import STUDIES
from ggkm_plugin.utils import config, registry
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.errors import OptionError, UserError
from ggkm_plugin.utils.files import working_folder

CLASSICAL = ('JNB', 'EBDB')
_CLEAN = 'without noise'
FORMATS = ('table', 'markdown', 'csv', 'latex')
_STANDARD = paper.STANDARD_CONVOLUTIONS


class System(NamedTuple):
    """A training: the option file and its variant."""

    file: str
    variant: str | None = None

    @property
    def experiment(self) -> str:
        """Return the name of the training's folder in experiments/."""
        return str(config.load_options(config.find_option_file(self.file), self.variant)['name'])

    @property
    def command(self) -> str:
        """Return the command that trains it."""
        return f'basicsr train -opt {self.file}' + (f' --variant {self.variant}' if self.variant else '')


class CellKey(NamedTuple):
    """A cell of a table: names of column and row."""

    column: str
    row: str


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    benchmark: the data set of compare_BENCHMARK.yml. columns: rows by column; `column` says what these are. systems: of
    the cells that are trained. clean: in the tables of noise, by column, the training without noise that its losses are
    measured from.
    """

    number: int
    title: str
    benchmark: str
    columns: Mapping[str, Rows]
    systems: Mapping[CellKey, System]
    clean: Mapping[str, System] = field(default_factory=dict)
    column: str = 'trained on'

    def cells(self) -> Iterator[tuple[CellKey, PaperRow]]:
        """Yield every cell with the paper's figures, row by row."""
        names = dict.fromkeys(name for rows in self.columns.values() for name in rows)
        for name in names:
            for column, rows in self.columns.items():
                if name in rows:
                    yield CellKey(column, name), rows[name]

    @property
    def prints(self) -> list[str]:
        """Fields of PaperRow that the table prints."""
        rows = [row for _, row in self.cells()]
        return [name for name in PaperRow._fields if any(getattr(row, name) is not None for row in rows)]


# Option files of the methods, by their names in the paper; {} is the training set.
_METHODS: Mapping[str, System] = {
    'DPDNet-S': System('train_DPDNetS_{}'),
    'AIFNet': System('train_AIFNet_{}'),
    'MDP': System('train_MDP_{}'),
    'KPAC': System('train_KPAC_{}'),
    'IFANet': System('train_IFAN_{}'),
    'DRBNet': System('train_DRBNet_{}'),
    'MPRNet*': System('train_MPRNet_JDRL_{}'),
    'SRN': System('train_SRN_{}'),
    'AttSRN': System('train_AttSRN_{}'),
    'NRKNet': System('train_NRKNet_{}'),
    'GKMNet': System('train_GKMNet_{}'),
    'GKMNet*': System('train_GKMNet_{}', 'star'),
    'GGKMNet': System('train_GGKMNet_{}'),
    paper.DAGGER: System('train_GGKMNet_{}', 'dagger'),
}


def _trained(method: str, dataset: str, variant: str | None = None) -> System:
    file, own = _METHODS[method]
    return System(file.format(dataset), variant or own)


def _methods(number: int, title: str, benchmark: str, columns: Mapping[str, Rows]) -> PaperTable:
    systems = {
        CellKey(column, name): _trained(name, column or benchmark)
        for column, rows in columns.items()
        for name in rows
        if name in _METHODS
    }
    return PaperTable(number, title, benchmark, columns, systems)


def _variants(number: int, title: str, variants: Mapping[CellKey, str | None]) -> PaperTable:
    """Build a table of variants of GGKMNet, or of the network that names the column, on DPDD."""
    columns: Mapping[str, Rows] = {8: {'': paper.TABLE_8}, 10: {'': paper.TABLE_10}, 11: paper.TABLE_11}[number]
    systems = {key: _trained(key.column or 'GGKMNet', 'DPDD', variant) for key, variant in variants.items()}
    return PaperTable(number, title, 'DPDD', columns, systems, column='network')


def _noise(number: int, title: str, benchmark: str, columns: Mapping[str, Rows]) -> PaperTable:
    systems = {
        CellKey(method, std): _trained(method, 'DPDD', 'noise') for method, rows in columns.items() for std in rows
    }
    clean = {method: _trained(method, 'DPDD') for method in columns}
    return PaperTable(number, title, benchmark, columns, systems, clean, 'method')


_TABLE_10 = {'P=10, Q=1': 'p10_q1', 'P=21, Q=1': 'p21_q1', 'P=84, Q=1': 'wo_group_84', 'P=21, Q=4': None}
TABLES: Mapping[int, PaperTable] = {
    table.number: table
    for table in (
        _methods(2, 'comparison on DPDD', 'DPDD', {'': paper.TABLE_2}),
        _methods(3, 'comparison on LFDOF', 'LFDOF', {'': paper.TABLE_3}),
        _methods(4, 'comparison on RealDOF', 'RealDOF', paper.TABLE_4),
        _methods(5, 'comparison on RTF', 'RTF', paper.TABLE_5),
        _noise(6, 'loss by noise on DPDD', 'DPDD', paper.TABLE_6),
        _noise(7, 'loss by noise on RTF', 'RTF', paper.TABLE_7),
        _variants(8, 'ablations', {CellKey('', row.label): row.variant for row in STUDIES['ablations'].rows}),
        _variants(10, 'groups and kernels', {CellKey('', name): variant for name, variant in _TABLE_10.items()}),
        _variants(
            11,
            'scales and iterations',
            {
                CellKey(network, name): None if name == 'S=3, R=1' else f's{name[2]}_r{name[-1]}'
                for network, rows in paper.TABLE_11.items()
                for name in rows
            },
        ),
    )
}


@dataclass(frozen=True)
class CellState:
    """A cell and its checkpoint.

    command: trains it, or scores it alone where nothing is trained. experiment: '' there. weights: None where missing.
    """

    key: CellKey
    paper: PaperRow
    command: str
    experiment: str = ''
    weights: Path | None = None

    @property
    def missing(self) -> bool:
        """Whether its checkpoint is needed and missing."""
        return bool(self.experiment) and self.weights is None

    @property
    def checkpoint(self) -> str:
        """State of the checkpoint in words."""
        return 'missing' if self.missing else 'found' if self.weights else 'not needed'


@dataclass(frozen=True)
class Reproduction:
    """A table, its cells, and the options of the comparison that evaluates those with a checkpoint.

    clean: of the tables of noise, the trainings without noise, by column. data: why the test images cannot be read, ''
    if they can.
    """

    table: PaperTable
    cells: list[CellState]
    clean: dict[str, CellState]
    options: Options
    data: str

    @property
    def missing(self) -> list[CellState]:
        """Cells without checkpoint, each training once."""
        cells = {cell.experiment: cell for cell in (*self.clean.values(), *self.cells) if cell.missing}
        return list(cells.values())


def plan(
    number: int,
    root: str = '.',
    weights_dir: str | None = None,
    rows: Sequence[str] | None = None,
    force_yml: Sequence[str] = (),
) -> Reproduction:
    """Find checkpoints and data of a table.

    weights_dir: holds NAME.pth or NAME/models/net_g_latest.pth of the experiments, or .safetensors; default:
    experiments/ below `root`.
    Raises OptionError for an unknown row or option, or a missing folder.
    """
    table = TABLES[number]
    known = list(dict.fromkeys(key.row for key, _ in table.cells()))
    for row in rows or ():
        if row not in known:
            raise OptionError(f'--rows {row}: no such row of Table {number}.{config.nearest(row, known, "There are")}')
    if weights_dir and not Path(weights_dir).expanduser().is_dir():
        raise OptionError(f'--weights-dir {weights_dir}: no such folder')
    options = config.load_options(config.find_option_file(f'compare_{table.benchmark}'), None, list(force_yml))
    folder = Path(root, 'experiments').absolute() if weights_dir is None else Path(weights_dir).expanduser().absolute()
    cells = [
        _state(key, row, table.systems[key], folder) if key in table.systems else _untrained(key, row, table.benchmark)
        for key, row in table.cells()
        if rows is None or key.row in rows
    ]
    clean = {
        column: _state(CellKey(column, _CLEAN), PaperRow(), system, folder) for column, system in table.clean.items()
    }
    printed = table.prints
    options |= {
        'name': f'reproduce_{number}',
        'models': _models(cells, clean),
        'metrics': [metric for metric in options['metrics'] if metric in printed],
        'published': False,
        'save_images': False,
        'complexity': options['complexity'] and 'parameters' in printed,
    }
    with working_folder(root):
        return Reproduction(table, cells, clean, options, _missing_data(options))


def _state(key: CellKey, row: PaperRow, system: System, folder: Path) -> CellState:
    name = system.experiment
    places = [
        folder / place
        for suffix in ('.pth', '.safetensors')
        for place in (f'{name}{suffix}', f'{name}/models/net_g_latest{suffix}')
    ]
    return CellState(key, row, system.command, name, next((place for place in places if place.is_file()), None))


def _untrained(key: CellKey, row: PaperRow, benchmark: str) -> CellState:
    classical = key.row in CLASSICAL
    compare = f'basicsr compare -opt compare_{benchmark} --variant classical'
    return CellState(key, row, compare if classical else f'basicsr verify datasets/{benchmark}')


def _missing_data(options: Options) -> str:
    for name, dataset in options['datasets'].items():
        try:
            registry.build(f'datasets.{name}', 'datasets', {**dataset, 'name': name, 'phase': 'test'})
        except UserError as error:
            return str(error)
    return ''


def _models(cells: Sequence[CellState], clean: Mapping[str, CellState]) -> list[dict[str, Any]]:
    """Return the models of the comparison, named by their experiments."""
    models: dict[str, dict[str, Any]] = {}

    def add(cell: CellState, **keys: Any) -> None:
        models.setdefault(cell.experiment, {'name': cell.experiment, 'weights': str(cell.weights), **keys})

    classical = config.load_options(config.find_option_file('compare_DPDD'), 'classical')['models']
    for cell in cells:
        before = clean.get(cell.key.column)
        if cell.key.row in CLASSICAL:
            models |= {model['name']: model for model in classical if model['name'] == cell.key.row}
        elif cell.weights and before is None:
            add(cell)
        elif cell.weights and before and before.weights:  # a loss needs both
            add(before)
            add(cell, drop_from=before.experiment)
    return list(models.values())


# Tables


class _Quantity(NamedTuple):
    label: str
    digits: int  # as the paper prints it
    key: str = ''  # of a model in results.json
    unit: float = 1


_QUANTITIES: Mapping[str, _Quantity] = {
    'psnr': _Quantity('PSNR', 3),
    'ssim': _Quantity('SSIM', 3),
    'lpips': _Quantity('LPIPS', 3),
    'parameters': _Quantity('params M', 2, 'parameters', 1e6),
    'gmacs': _Quantity('GMAC', 1, 'macs_paper', 1e9),
    'seconds': _Quantity('time s', 3, 'seconds'),
}


def states(found: Reproduction) -> Table:
    """Return the cells with their state and command."""
    several = len(found.table.columns) > 1
    data = 'missing' if found.data else 'found'
    rows = [
        [cell.key.row, *([cell.key.column] if several else []), cell.checkpoint, data, cell.command]
        for cell in (*found.clean.values(), *found.cells)
    ]
    header = ['row', *([found.table.column] if several else []), 'checkpoint', 'data', 'command']
    return Table(header, rows, title=_title(found.table), notes=[f'data: {found.data}'] if found.data else [])


def measured(found: Reproduction, results: Mapping[str, Any], cell: CellState, quantity: str) -> float | None:
    """Return a figure of a cell from the results of its comparison, in the paper's units; None if there is none."""
    name = cell.experiment or (cell.key.row if cell.key.row in CLASSICAL else 'input')
    kind = _QUANTITIES[quantity]
    if kind.key:
        model: dict[str, Any] = next((model for model in results['models'] if model['name'] == name), {})
        value = model.get(kind.key) or None
        return None if value is None else value / kind.unit
    for dataset in results['datasets']:
        if not found.clean:
            return dataset['means'].get(name, {}).get(quantity)
        if dataset.get('noise_std') == float(cell.key.row):
            return dataset['drops'].get(name, {}).get(quantity) if name in results['drop_from'] else None
    return None


def compared(found: Reproduction, results: Mapping[str, Any]) -> Table:
    """Return the paper's table with the figures measured here: columns side by side, losses by noise in groups."""
    table, names = found.table, found.table.prints
    by_row: dict[str, list[Cell | str]] = {}
    for cell in found.cells:
        figures = []
        for name in names:
            here, digits = measured(found, results, cell, name), _QUANTITIES[name].digits
            figures += [fixed(getattr(cell.paper, name), digits), fixed(here, digits + (name == 'parameters'))]
        label = cell.key.column if found.clean else cell.key.row
        footnote = FOOTNOTES.get((table.number, cell.key.row), '')
        key = f'{label} {cell.key.row}' if found.clean else label
        by_row.setdefault(key, [Cell(cell.key.row, footnote=footnote)]).extend(figures)
    columns = [''] if found.clean or len(table.columns) == 1 else [f'{column} ' for column in table.columns]
    header = [word for column in columns for name in names for word in (f'{column}{_QUANTITIES[name].label}', 'here')]
    label = 'noise' if found.clean else 'row'
    if not found.clean:
        return Table([label, *header], list(by_row.values()), title=_title(table), notes=_notes(found, results))
    groups = [
        (column, [cells for key, cells in by_row.items() if key.startswith(f'{column} ')]) for column in table.columns
    ]
    return Table([label, *header], (), groups, _title(table), _notes(found, results))


def _title(table: PaperTable) -> str:
    return f'Table {table.number}: {table.title}'


def _notes(found: Reproduction, results: Mapping[str, Any]) -> list[str]:
    images = sum(len(dataset['images']) for dataset in results['datasets'][:1])
    notes = [f'here: {results["protocol_words"]}; {images} images. The paper does not state its protocol']
    if 'seconds' in found.table.prints:
        notes.append(
            f'time: {results["measured_at"]}, here on {results["machine"]["device"]}, in the paper on an NVIDIA RTX '
            '2080 Ti; GMAC: half of what thop counts'
        )
    if found.table.number == 2:
        notes.append(
            f'Sec. 5.2: standard convolutions cost {_STANDARD.gmacs:+} GMAC and {_STANDARD.seconds:+} s; here: basicsr '
            'bench network, and basicsr profile train_GGKMNet_DPDD --variant standard_convolutions'
        )
    if found.clean:
        notes.append('loss: training without noise on images without, against training with noise on images with it')
    notes += [f'missing: {_name(cell)}: {cell.command}' for cell in found.missing]
    return notes


def _name(cell: CellState) -> str:
    row = 'with noise' if cell.key.row.isdecimal() else cell.key.row
    return f'{row} ({cell.key.column})' if cell.key.column else row


def render(found: Reproduction, results: Mapping[str, Any] | None, form: str) -> str:
    """Return the table as one of FORMATS, or without results the states of its cells; ends in a line break."""
    if form != 'csv':
        return write(states(found) if results is None else compared(found, results), form) + '\n'
    if results is None:
        table = states(found)
        return csv_text(['table', *table.header], [[found.table.number, *row] for row in table.rows])
    rows = [
        [
            found.table.number, cell.key.column, cell.key.row, name, getattr(cell.paper, name),
            measured(found, results, cell, name), results['protocol'], cell.checkpoint, cell.command,
        ]
        for cell in found.cells
        for name in found.table.prints
    ]  # fmt: skip
    header = ['table', 'column', 'row', 'quantity', 'paper', 'here', 'protocol', 'checkpoint', 'command']
    return csv_text(header, rows)
