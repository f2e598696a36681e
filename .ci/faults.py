#!/usr/bin/env python
"""Put small faults into exported code, one at a time, and see whether the tests of its notebook notice.

    python .ci/faults.py [NOTEBOOK ...] [--new] [--jobs 2] [--limit 400]     # such as 07_metrics; all that have a list: slow

A line of .ci/faults/NOTEBOOK.jsonl: {"id": "07a", "what": "counts of the last update alone", "old": "self.n += x",
"new": "self.n = x"}; `old` stands once in the exported cells, and
once in the module (a line break at the end of a cell is not in the cell). Prints a line a fault and exits with 1 where one survives.
Works on a copy of the tree. The cells that nbdev_test skips are not run here either. Each fault is tried in a process
of its own, forked from one that runs the notebook, just before a cell that may notice it: the one that
.ci/faults/killers.json names, or each that speaks of the faulty function. That cell alone is run, after all exported
cells since the faulty one. (The same without the fault must pass, or it proves nothing.) What none of them noticed is
run from the top. What a try leaves in the folder for temporary files is undone; cells that load onnxruntime are left out of it.
--write notes in killers.json which cell noticed what. Written there by hand: 'hangs', where a fault makes a cell wait for ever.
"""
import argparse, contextlib, fcntl, json, os, re, shutil, signal, subprocess, sys, tempfile, time, types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT/'.ci'/'faults'
KILLERS = LISTS/'killers.json'

def ids(nb): return [c['id'] for c in json.loads(nb.read_text(encoding='utf-8'))['cells']]

def cells(nb):
    "(index, source, whether it is exported) of each code cell that nbdev_test runs."
    for i, c in enumerate(json.loads(nb.read_text(encoding='utf-8'))['cells']):
        if c['cell_type'] != 'code': continue
        source = ''.join(c['source'])
        words = ' '.join(l.strip()[2:] for l in source.splitlines() if l.strip().startswith('#|')).split()
        if {'slow', 'notest', 'cuda'} & {*words} or 'eval: false' in ' '.join(words): continue
        if 'nbdev_export(' not in source: yield i, source, words[:1] in (['export'], ['exporti'], ['exports'])

def run_from(nb, space, start, fault=None, only=None):
    """Run the cells of a notebook from number `start` on, the fault in them; the first that fails, or 'SURVIVED'.
    `only`: of the cells that are not exported just this one, and none after it."""
    for i, source, exported in cells(nb):
        if i < start or only and (i > only or not exported and i != only): continue
        if exported and fault: source = source.replace(fault['old'], fault['new'])
        try: exec(compile(source, f'<{nb.name}[{i}]>', 'exec'), space)
        except BaseException as e:      # SystemExit too: a command that ends the notebook is noticed
            return f'killed by cell {i}: ' + f'{type(e).__name__}: {e}'.splitlines()[0][:100]
    return 'SURVIVED'

def fresh(nb):
    "The empty namespace of a notebook that begins, in its folder."
    os.chdir(nb.parent)
    main = sys.modules['__main__'] = types.ModuleType('__main__')
    return vars(main)

def run_whole(nb, fault=None): return run_from(nb, fresh(nb), 0, fault)

def forked(limit, f, *args):
    "What f(*args) says, in a process of its own, which has all that this one has loaded and run so far."
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        os.close(read)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        signal.alarm(limit)
        try: os.write(write, f(*args).encode())
        finally: os._exit(0)        # whatever is raised: what stands above is the first process's to clear away
    os.close(write)
    try:
        with os.fdopen(read, 'rb') as f: answer = f.read().decode()
        os.waitpid(pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError): os.killpg(pid, signal.SIGKILL)    # and the programs that it started
    return answer or 'killed: it crashed, or took too long'

def misfit(nb, module, fault):
    "Why a fault does not fit the code, or None."
    in_cells = sum(source.count(fault['old']) for _, source, exported in cells(nb) if exported)
    for where, places in (module.name, module.read_text(encoding='utf-8').count(fault['old'])), (nb.name, in_cells):
        if places != 1: return f'BAD: `old` stands at {places} places of {where}'

def tried(limit, module, fault, f, *args):
    "What f(*args) says, in a process of its own, while the module on the disk has the fault."
    text = module.read_text(encoding='utf-8')
    module.write_text(text.replace(fault['old'], fault['new']), encoding='utf-8')
    try: return forked(limit, f, *args)
    finally: module.write_text(text, encoding='utf-8')

@contextlib.contextmanager
def put_back(folder):
    "A copy stands in the place of a folder meanwhile: a process that was forked shares the disk."
    aside = Path(tempfile.mkdtemp(dir=folder.parent))
    folder.rename(aside/'kept')
    subprocess.run(['cp', '-a', aside/'kept', folder], check=True)      # named pipes and links too
    try: yield
    finally:
        folder.rename(aside/'used')
        (aside/'kept').rename(folder)
        shutil.rmtree(aside, ignore_errors=True)        # a program that was left running may still write there

WORD = re.compile(r'[a-z_]{3,}|\d{3,}', re.I)

def likely(nb, first, source, fault):
    """The cells behind a faulty one that speak of the function or class which has the fault, or of the fault's own words; the likeliest
    first, which share the rarest words with the fault and the lines around it."""
    names = re.findall(r'^ *(?:def|class) (\w+)', source[:source.index(fault['old'])+len(fault['old'])], re.M)[-1:]
    words = '|'.join(map(re.escape, names+re.findall(r'--\w+', fault['what']))) or '$^'
    of_cell = {i: s for i, s, exported in cells(nb) if i > first and not exported}
    has = {i: {*WORD.findall(s)} for i, s in of_cell.items()}
    line = source[:source.index(fault['old'])].count('\n')
    near = '\n'.join(source.splitlines()[max(line-1, 0):line+2])
    told = {*WORD.findall(f"{fault['what']} {fault['old']} {fault['new']} {near}")}
    cells_with = {w: sum(w in h for h in has.values()) for w in told}
    shared = {i: sum(1/cells_with[w] for w in told & h) for i, h in has.items() if re.search(rf'(?<!\w)(?:{words})\b', of_cell[i])}
    return sorted(shared, key=shared.get, reverse=True)

SLOW = 3        # seconds: a cell that takes longer is tried only where it is one of the six likeliest
LEFT_OUT = re.compile(r'load_onnx\(|export_onnx\(|onnx_session\(|\.onnx\b')     # cells that load onnxruntime, whose threads a fork does not have

def walk(limit, nb, module, faults, killers, report):
    "Run the notebook once; each fault is tried in a process that goes on from a cell which may notice it."
    tmp = nb.parent.parent/'tmp'        # of the notebook and its programs
    tmp.mkdir()
    tempfile.tempdir = os.environ['TMPDIR'] = str(tmp)
    space, seconds, where = fresh(nb), {}, {}       # seconds: of a cell without the fault, None if it fails; where: the faulty cell of each
    dead, tries = set(), {f['id']: [killers[f['id']]] for f in faults if f['id'] in killers}
    for i, source, exported in cells(nb):
        for fault in faults:
            if exported and fault['old'] in source:
                where[fault['id']] = i
                if fault['id'] not in tries: tries[fault['id']] = likely(nb, i, source, fault)
            first = where.get(fault['id'])
            if first is None or fault['id'] in dead or i not in tries[fault['id']]: continue
            if 'onnxruntime' in sys.modules: continue
            if (first, i) not in seconds:                   # the same without the fault: it must pass
                with put_back(tmp):
                    start = time.time()
                    passed = forked(limit, run_from, nb, space, first, None, i) == 'SURVIVED'
                seconds[first, i] = time.time()-start if passed else None
            if seconds[first, i] is None: continue
            if seconds[first, i] > SLOW and i not in tries[fault['id']][:6]: continue
            start = time.time()
            with put_back(tmp): said = tried(limit, module, fault, run_from, nb, space, first, fault, i)
            if not said.startswith('killed by'): continue   # what takes too long is left to the run from the top
            report(fault, time.time()-start, said)
            dead.add(fault['id'])
        if not exported and LEFT_OUT.search(source): continue
        try: exec(compile(source, f'<{nb.name}[{i}]>', 'exec'), space)
        except Exception:
            if exported: raise
            # else it leans on a cell that was left out; what does not pass without a fault proves nothing later on
    return 'done'

def noted(name):
    "{fault: the cell that noticed it} of a notebook, as killers.json has it."
    return json.loads(KILLERS.read_text(encoding='utf-8')).get(name, {}) if KILLERS.exists() else {}

def run_list(name, limit, write, new):
    "All faults of one notebook; 1 where one is not killed."
    faults = [json.loads(l) for l in (LISTS/f'{name}.jsonl').read_text(encoding='utf-8').splitlines() if l.strip()]
    if new: faults = [f for f in faults if f['id'] not in noted(name)]
    if not faults: return print(f'{name}: nothing new') or 0
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        skip = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints')
        for part in ('fcn_nb', 'nbs', '.ci'): shutil.copytree(ROOT/part, root/part, ignore=skip)
        for part in ('settings.ini', 'README.md'): shutil.copy(ROOT/part, root)
        nb = root/'nbs'/f'{name}.ipynb'
        module = next(s.split('default_exp')[1].split()[0] for _, s, _ in cells(nb) if 'default_exp' in s)
        module = root/'fcn_nb'/f'{module}.py'
        sys.path.insert(0, str(root))
        os.environ['PYTHONPATH'] = str(root)        # for the commands that a notebook starts
        sys.dont_write_bytecode = True
        import torch, torchvision, fastai.learner, fastai.callback.schedule, fastcore.test, hypothesis, matplotlib.pyplot  # noqa
        torch.set_num_threads(1)
        hypothesis.settings.register_profile('faults', phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
        hypothesis.settings.load_profile('faults')                  # that it fails is enough: the smallest case takes minutes
        if (whole := forked(limit, run_whole, nb)) != 'SURVIVED':
            return print(f'{name}: without any fault it is {whole}', flush=True) or 1
        out, dead = os.fdopen(os.dup(1), 'w'), root/'dead.jsonl'    # the notebook's own words go nowhere
        def report(fault, seconds, said):
            print(f"{name:18} {fault['id']:6} {seconds:4.0f} s  {fault['what'][:60]:60}  {said}", file=out, flush=True)
            if not said.startswith('killed'): return
            cell = re.match(r'killed by cell (\d+)', said)
            with dead.open('a') as f: f.write(json.dumps([fault['id'], cell and ids(nb)[int(cell[1])]])+'\n')
        def killed(): return dict(json.loads(l) for l in dead.read_text().splitlines())
        fits = [f for f in faults if not misfit(nb, module, f)]
        at = {name: i for i, name in enumerate(ids(nb))}
        dead.touch()
        text = module.read_text(encoding='utf-8')
        told = forked(limit*len(faults), walk, limit, nb, module, fits, {f: at[c] for f, c in noted(name).items() if c in at}, report)
        module.write_text(text, encoding='utf-8')               # a walk that took too long leaves its fault
        if told != 'done': print(f'{name}: the walk ended early, so what is left is run from the top', file=out, flush=True)
        for fault in faults:                        # what lived on, in a run from the top: a cell may import the module
            if fault['id'] in killed(): continue
            start = time.time()
            said = misfit(nb, module, fault) or tried(limit, module, fault, run_whole, nb, fault)
            report(fault, time.time()-start, said)
        left = len(faults)-len(killed())
        if write: note(name, {f: c for f, c in killed().items() if c})
    print(f'{name}: {len(faults)-left} of {len(faults)} killed', flush=True)
    return int(left > 0)

def note(name, killed):
    "Keep which cell noticed which fault; another list may be at it too."
    with open(LISTS/'.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = json.loads(KILLERS.read_text(encoding='utf-8')) if KILLERS.exists() else {}
        KILLERS.write_text(json.dumps({**old, name: old.get(name, {}) | killed}, indent=0, sort_keys=True)+'\n', encoding='utf-8')

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('notebooks', nargs='*', help='default: all that have a list')
    p.add_argument('--jobs', type=int, default=2, help='notebooks at a time')
    p.add_argument('--limit', type=int, default=400, help='seconds for one fault')
    p.add_argument('--write', action='store_true', help='note which cell noticed which fault, for the next run')
    p.add_argument('--new', action='store_true', help='only faults of which killers.json does not tell who noticed them')
    args = p.parse_args()
    names = args.notebooks or sorted(f.stem for f in LISTS.glob('*.jsonl'))
    if len(names) == 1: return run_list(names[0], args.limit, args.write, args.new)
    left, running = 0, []
    while names or running:                     # each list in a process of its own
        if names and len(running) < args.jobs:
            running.append(subprocess.Popen([sys.executable, __file__, names.pop(0), '--limit', str(args.limit)]
                                            + ['--write']*args.write + ['--new']*args.new))
        for p in [p for p in running if p.poll() is not None]:
            left += p.returncode > 0
            running.remove(p)
        time.sleep(.2)
    print(f'{left} notebooks with a fault that is not killed')
    return int(left > 0)

if __name__ == '__main__':
    os.environ.update(MPLBACKEND='Agg', OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE')
    sys.exit(main())
