import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r"__version__ = '(.+)'", (here / 'ggkm_plugin' / '__init__.py').read_text()).group(1)

SPANDREL = 'spandrel>=0.4'
SPANDREL_EXTRA = 'spandrel_extra_arches>=0.2'
SKLEARN = 'scikit-learn>=1.5'
# Comes with torch for CUDA, which also says which one; a torch without CUDA can have it for its interpreter.
TRITON = "triton; sys_platform == 'linux' and platform_machine == 'x86_64'"

setup(
    name='ggkm_plugin',
    version=version,
    description='GGKMNet for BasicSR: single-image defocus deblurring with grouped Gaussian kernel mixtures',
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10,<3.13',
    packages=[
        *find_packages(include=['ggkm_plugin', 'ggkm_plugin.*']),
        'ggkm_plugin.options',
        'ggkm_plugin.datasets_prep',
    ],
    package_dir={'ggkm_plugin.options': 'options', 'ggkm_plugin.datasets_prep': 'datasets_prep'},
    package_data={
        'ggkm_plugin.options': ['*.yml', 'schema.json'],
        'ggkm_plugin.report': ['comparison/*'],
        'ggkm_plugin.inspection': ['page_parts/*'],
        'ggkm_plugin.classical': ['jnb_dictionary.npz'],
        'ggkm_plugin.report.viewer': ['*.html', '*.css', '*.js'],
        'ggkm_plugin.weights': ['*.pth', 'README.md'],
    },
    install_requires=[
        'basicsr==1.4.2',  # brings tb-nightly; a second TensorBoard beside it would break the `tensorboard` command
        'lmdb',
        'lpips',
        'numpy',
        'opencv-python',
        'Pillow>=11',  # writes XMP into JPEG, and TIFF strips
        'pyyaml',
        'scikit-image',
        'scipy',
        'setuptools<81',  # TensorBoard needs pkg_resources, basicsr on Python 3.12 distutils
        'thop',
        'torch>=2.7',  # loads checkpoints safely by default, and says when it is exporting
        'torchvision>=0.21',
        'tqdm',
    ],
    extras_require={
        'models': [SPANDREL],  # NAFNet, Uformer, FFTformer, GRL, KBNet
        'academic-models': [SPANDREL, SPANDREL_EXTRA],  # and Restormer, MPRNet: for non-commercial use
        'keras': ['h5py'],  # to read the released weights of DPDNet-S and MDP
        'figures': [SKLEARN],  # t-SNE
        'test': ['pytest>=7', 'ruff', 'h5py', SPANDREL, SPANDREL_EXTRA, SKLEARN, TRITON],
    },
    entry_points={
        'console_scripts': ['basicsr = ggkm_plugin.cli.main:main'],
        'basicsr.plugins': ['ggkm_plugin = ggkm_plugin.training.registrations'],
    },
    classifiers=[
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
)
