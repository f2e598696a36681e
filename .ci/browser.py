#!/usr/bin/env python
"""Notebooks in a real JupyterLab, and the page of fcn_demo, in headless Chromium, as a reader has them.

    python .ci/browser.py [NAME ...] --out DIR [--limit 600] [--chromium PATH]

NAME: a notebook such as 01_filters, index, or `demo`, the page of fcn_demo; default: index, one of each floor, and demo.
A notebook is opened in a copy of the tree, where it is without the cells that nbdev_test leaves out (flagged slow, cuda; --slow keeps
them); its outputs are cleared, and Run All Cells is chosen in the menu. A line each: seconds,
cells run, images seen. It fails where a cell was not run or shows an error or a red box of stderr, where an image that is stored in
the notebook does not come out again, where a heading that is stored collapsed stands open, and where the browser asked for anything
that is not on this machine. DIR gets screenshots: NAME.png with its first image, NAME-end.png. Exit status 1 if any failed.

Wants `pip install -e '.[dev,browser]'` and a Chromium (Debian's package chromium).
"""
import argparse, contextlib, json, os, re, secrets, shutil, socket, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path
from playwright.sync_api import Error, sync_playwright
from checks import NBS, cfg, copy_tree

# one of each floor, of those that take a minute or so
NAMES = ('index', '00b_ranks', '01_filters', '02_convolutionalize', '03_upsampling', '04_losses', '05_backbones', '06c_export', '07_metrics',
         '08_scenes', '09b_foreign', '10b_download', '11_check', '12b_resume', '13b_large', '14_caffe', '15b_classifiers', '16b_demo', 'demo')
QUIET = 8       # seconds without a running cell: between two cells a kernel is idle for a moment
VIEW = dict(width=1200, height=1400)

SETTINGS = {    # JupyterLab draws only the cells in sight, unless it is told so
    'notebook-extension/tracker': {'windowingMode': 'none'},
    'apputils-extension/notification': {'fetchNews': 'false', 'checkForUpdates': False, 'doNotDisturbMode': True}}

STATE = """() => jupyterapp.shell.currentWidget.content.widgets.map(w => ({
    id: w.model.id, kind: w.model.type, empty: !w.model.sharedModel.source.trim(), count: w.model.executionCount ?? null,
    waits: w.prompt === '*' || (w.node.querySelector('.jp-InputPrompt')?.textContent ?? '').includes('*'),
    hidden: w.isHidden || w.node.offsetParent === null,
    images: [...w.node.querySelectorAll('.jp-OutputArea img, .jp-OutputArea svg')].map(i => i.tagName === 'svg' || i.naturalWidth > 0),
    errors: [...w.node.querySelectorAll('[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]')]
        .map(e => e.textContent.trim().slice(-300))}))"""

READY = """() => { const s = jupyterapp.shell.currentWidget.sessionContext
    return s.isReady && s.session?.kernel?.connectionStatus === 'connected' && s.session.kernel.status === 'idle' }"""

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

@contextlib.contextmanager
def process(words, **kwargs):
    "A program that ends with the block."
    p = subprocess.Popen(words, text=True, **kwargs)
    try: yield p
    finally:
        p.terminate()
        try: p.wait(20)
        except subprocess.TimeoutExpired: p.kill()

def environment(tree, tmp):
    "The copy's library, settings of its own, and no way outward but this machine."
    dead = 'http://127.0.0.1:9'
    own = dict(JUPYTER_CONFIG_DIR='config', JUPYTERLAB_SETTINGS_DIR='settings', JUPYTERLAB_WORKSPACES_DIR='workspaces', IPYTHONDIR='ipython', JUPYTER_RUNTIME_DIR='runtime')
    return {**os.environ, **{k: str(tmp/v) for k, v in own.items()}, 'PYTHONPATH': os.pathsep.join([str(tree), os.environ.get('PYTHONPATH', '')]),
            'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}', 'OMP_WAIT_POLICY': 'PASSIVE',
            'http_proxy': dead, 'https_proxy': dead, 'HTTP_PROXY': dead, 'HTTPS_PROXY': dead, 'no_proxy': '127.0.0.1,localhost', 'NO_PROXY': '127.0.0.1,localhost'}

class Lab:
    "A JupyterLab of a tree, with a token, on a free port."
    def __init__(self, tree, env, log):
        for name, told in SETTINGS.items():
            file = Path(env['JUPYTERLAB_SETTINGS_DIR'])/'@jupyterlab'/f'{name}.jupyterlab-settings'
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(told))
        self.token, self.at = secrets.token_hex(16), f'http://127.0.0.1:{(port := free_port())}'
        self.words = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--expose-app-in-browser', '--ServerApp.ip=127.0.0.1',
                      f'--ServerApp.port={port}', '--ServerApp.port_retries=0', f'--IdentityProvider.token={self.token}', f'--ServerApp.root_dir={tree}']
        self.kwargs = dict(cwd=tree, env=env, stdout=log, stderr=log)

    def ask(self, path, method='GET'):
        request = urllib.request.Request(f'{self.at}/api/{path}', method=method, headers={'Authorization': f'token {self.token}'})
        with urllib.request.urlopen(request, timeout=30) as r: return json.loads(r.read() or 'null')

    def wait(self, p, seconds=120):
        end = time.time()+seconds
        while time.time() < end and p.poll() is None:
            try: return self.ask('status')
            except OSError: time.sleep(.5)
        raise RuntimeError('JupyterLab does not start; its log is in lab.log')

    def end_kernels(self):
        for session in self.ask('sessions'): self.ask(f'sessions/{session["id"]}', 'DELETE')

def has_image(cell): return any(k.startswith('image/') for o in cell.get('outputs', ()) for k in o.get('data', {}))

def leave_out(nb):
    "Write a notebook of the copy without the cells that nbdev_test does not run."
    told = json.loads(nb.read_text(encoding='utf-8'))
    flag = re.compile(rf'^#\s*\|\s*({"|".join(cfg["tst_flags"].split())})\b', re.M)
    told['cells'] = [c for c in told['cells'] if c['cell_type'] != 'code' or not flag.search(''.join(c['source']))]
    nb.write_text(json.dumps(told), encoding='utf-8')

def stored(nb):
    "(ids of cells whose stored output is an image, ids of headings that are stored collapsed) of a notebook."
    cells = json.loads(nb.read_text(encoding='utf-8'))['cells']
    return [c['id'] for c in cells if has_image(c)], [c['id'] for c in cells if c['metadata'].get('jp-MarkdownHeadingCollapsed')]

def run_all(page, limit):
    "Clear the outputs, choose Run All Cells, wait for quiet: the cells as they are then, and whether it was in time."
    page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.click('.lm-MenuBar-item >> text="Run"')
    page.click('.lm-Menu-item >> text="Run All Cells"')
    quiet, end = 0, time.time()+limit
    while quiet < QUIET and time.time() < end:
        time.sleep(1)
        cells = page.evaluate(STATE)
        busy = not page.evaluate(READY) or any(c['waits'] for c in cells) or not any(c['count'] for c in cells)
        quiet = 0 if busy else quiet+1
    return page.evaluate(STATE), quiet >= QUIET

def problems(before, cells, wanted, collapsed, in_time, limit):
    "What is wrong with a notebook that was run."
    found = [] if in_time else [f'not done after {limit} s']
    below = {c['id']: after for c, after in zip(before, before[1:])}
    found += [f'{k}: the heading is stored collapsed and stands open' for k in collapsed if not below[k]['hidden']]
    for c in cells:
        found += [f'{c["id"]}: {text}' for text in c['errors']]
        if c['kind'] == 'code' and not c['empty'] and not c['count']: found.append(f'{c["id"]}: was not run')
        if c['id'] in wanted and not (c['images'] and all(c['images'])): found.append(f'{c["id"]}: its image is not there')
    return found

def notebook(page, lab, tree, name, out, limit):
    "Open a notebook, run it, look at it: (what it did, what is wrong)."
    wanted, collapsed = stored(tree/NBS.name/f'{name}.ipynb')
    page.goto(f'{lab.at}/lab/tree/{NBS.name}/{name}.ipynb?reset&token={lab.token}', timeout=120_000)
    page.wait_for_selector('.jp-Notebook .jp-Cell', timeout=120_000)
    page.wait_for_function(READY, timeout=120_000)      # what is run before that is not run, without a word
    before = page.evaluate(STATE)
    cells, in_time = run_all(page, limit)
    shown = {c['id']: c for c in cells}
    first = next((i for i, c in enumerate(cells) if c['images'] and not c['hidden']), 0)
    for which, suffix in (first, ''), (len(cells)-1, '-end'):
        page.evaluate('''i => { const w = jupyterapp.shell.currentWidget.content.widgets[i]; w.node.scrollIntoView({block: 'center'}) }''', which)
        time.sleep(1)
        page.screenshot(path=out/f'{name}{suffix}.png')
    ran = sum(bool(c['count']) for c in cells)
    images = sum(len(shown[k]['images']) for k in wanted)
    return f'{ran} cells run, {images} images', problems(before, cells, wanted, collapsed, in_time, limit)

def changed(page, before, what):
    "Wait until the picture is another one."
    page.wait_for_function('was => { const p = document.getElementById("picture"); return p.src && p.src != was && p.complete && p.naturalWidth }', arg=before, timeout=60_000)
    page.wait_for_function('() => !document.body.classList.contains("busy")', timeout=60_000)
    return page.evaluate('() => document.getElementById("picture").src')

def demo(page, tree, env, out):
    "The page of fcn_demo: a scene, another net, a pixel, files."
    found, done = [], 0
    def must(true, what):
        nonlocal done
        done += 1
        if not true: found.append(what)
    with process([sys.executable, '-W', 'ignore', '-c', 'from fcn_nb.demo import fcn_demo; fcn_demo()', '--port', '0'], env=env, cwd=tree, stdout=subprocess.PIPE) as p:
        page.goto(re.search(r'http://\S+', p.stdout.readline())[0])
        first = changed(page, '', 'the first scene')
        page.click('#new')
        second = changed(page, first, 'a new scene')
        legend = page.inner_text('#shares')
        must('background' in legend and '%' in legend, 'the legend has no shares')
        page.screenshot(path=out/'demo-8s.png')
        page.check('input[value="FCN-32s"]')
        coarse = changed(page, second, 'FCN-32s')
        must('FCN-32s' in page.inner_text('#note'), 'the note does not name FCN-32s')
        page.check('input[value="FCN-8s"]')
        must(changed(page, coarse, 'FCN-8s') == second, 'FCN-8s draws another image the second time')
        box = page.locator('#picture').bounding_box()
        page.mouse.click(box['x']+box['width']*.5, box['y']+box['height']*.6)
        page.wait_for_selector('.box', timeout=60_000)
        must(page.locator('.box').count() == 3 and page.locator('#dot').count() == 1, 'the click does not show three boxes and a dot')
        must(re.search(r'Row \d+, column \d+\. Pixels seen', page.inner_text('#told')), 'the click is not told in words')
        must(page.locator('#weights .row').count() == 8, 'the classes are not weighed')
        page.screenshot(path=out/'demo.png')
        page.set_input_files('#file', files=[dict(name='no image.png', mimeType='image/png', buffer=b'no image')])
        page.wait_for_function('() => document.getElementById("error").textContent', timeout=60_000)
        must('no image.png: not a readable image' in page.inner_text('#error'), 'a bad file is not told')
        page.set_input_files('#file', NBS/'images'/'fig4.png')
        changed(page, second, 'a file')
        must('fig4.png: ' in page.inner_text('#note') and not page.inner_text('#error'), 'a file is not shown')
        must('Row' not in page.inner_text('#told') and not page.locator('.box').count(), 'the pixel of the last image is still told')
        page.screenshot(path=out/'demo-file.png')
    return f'{done} things looked at', found

def opened(browser):
    "A page, and what it asked for beyond this machine, which it does not get."
    page, strangers = browser.new_page(viewport=VIEW), []
    def route(r):
        if re.match(r'https?://127\.0\.0\.1[:/]', r.request.url) or r.request.url.startswith(('data:', 'blob:')): return r.continue_()
        strangers.append(r.request.url[:100])
        r.abort()
    page.route('**/*', route)
    return page, strangers

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('names', nargs='*', default=NAMES, metavar='NAME', help='default: '+' '.join(NAMES))
    p.add_argument('--out', type=Path, required=True, help='folder for the screenshots')
    p.add_argument('--limit', type=int, default=600, help='seconds for a notebook')
    p.add_argument('--slow', action='store_true', help='run the cells flagged slow and cuda too')
    p.add_argument('--chromium', default=shutil.which('chromium') or shutil.which('chromium-browser'), help='the browser')
    args = p.parse_args()
    unknown = [o for o in args.names if o != 'demo' and not (NBS/f'{o}.ipynb').exists()]
    if unknown: sys.exit(f'no such notebook: {", ".join(unknown)}')
    if not args.chromium: sys.exit('no chromium is here: install it, or give --chromium PATH')
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory() as tmp, open(args.out/'lab.log', 'w') as log, sync_playwright() as playwright, contextlib.ExitStack() as stack:
        tmp = Path(tmp)
        tree = tmp/'tree'
        tree.mkdir()
        copy_tree(tree)
        if not args.slow:
            for name in {*args.names} - {'demo'}: leave_out(tree/NBS.name/f'{name}.ipynb')
        env = environment(tree, tmp)
        browser = playwright.chromium.launch(executable_path=args.chromium, args=['--no-sandbox'])
        lab = Lab(tree, env, log)
        if {*args.names} - {'demo'}: lab.wait(stack.enter_context(process(lab.words, **lab.kwargs)))
        for name in args.names:
            start = time.time()
            page, strangers = opened(browser)
            try: did, found = demo(page, tree, env, args.out) if name == 'demo' else notebook(page, lab, tree, name, args.out, args.limit)
            except Error as e: did, found = 'broken off', [str(e).splitlines()[0]]
            if name != 'demo': lab.end_kernels()
            found += [f'asked for {url}' for url in strangers]
            page.close()
            failed += bool(found)
            print(f'[{"FAIL" if found else "ok"}] {name}: {time.time()-start:.0f} s, {did}', *found, sep='\n       ', flush=True)
        browser.close()
    sys.exit(failed > 0)

if __name__ == '__main__': main()
