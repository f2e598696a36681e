"All settings are in settings.ini: edit there, not here."
from configparser import ConfigParser
from pathlib import Path
import setuptools

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
licenses = {'apache2': 'Apache-2.0'}
statuses = ['', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta',
            '5 - Production/Stable', '6 - Mature', '7 - Inactive']
py_versions = '3.11 3.12 3.13'.split()

setuptools.setup(
    name = cfg['lib_name'],
    license_expression = licenses[cfg['license']],
    license_files = ['LICENSE', 'NOTICE'],
    classifiers = [
        'Development Status :: ' + statuses[int(cfg['status'])],
        'Intended Audience :: ' + cfg['audience'],
        'Natural Language :: ' + cfg['language'],
    ] + ['Programming Language :: Python :: ' + o for o in py_versions[py_versions.index(cfg['min_python']):]],
    url = cfg['git_url'],
    packages = setuptools.find_packages(include=[cfg['lib_path'] + '*']),
    include_package_data = True,
    install_requires = cfg['requirements'].split(),
    extras_require = {'dev': f"{cfg['dev_requirements']} {cfg['onnx_requirements']}".split(),
                      **{name: cfg[f'{name}_requirements'].split() for name in ('onnx', 'large', 'distributed', 'browser')}},
    python_requires = '>=' + cfg['min_python'],
    long_description = Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type = 'text/markdown',
    zip_safe = False,
    entry_points = {
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
    },
    **{o: cfg[o] for o in 'version description keywords author author_email'.split()})
