#!/usr/bin/env python
"""Hostile files: every reader of fcn_nb gets damaged and malicious ones, and reads them or says one clean line.

    python .ci/fuzz.py [READER ...] [--cases 200] [--seed 0] [--log FILE] [--kills 0]
    python .ci/fuzz.py --case png:0:137 [--keep FILE]      that case alone, with its traceback

nbs/31_hostile.ipynb tells what is tried and why, and has what was found. A case depends on (seed, reader, index) alone.
--log FILE: a line of JSON for each finding and each hundred cases; the same command goes on where it was stopped.
--kills N: N trainings, each killed at a random moment and gone on with, end with the bytes of one that was left alone.
Exit status 1 where anything was found.
"""
import argparse, bz2, contextlib, gzip, io, json, os, random, re, resource, select, shutil, signal, struct, sys, tarfile, time, traceback
import subprocess, tempfile, warnings, zipfile, zlib
from collections import Counter
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

SECONDS, MEGABYTES = 5, 64      # of the processor, and of memory beside twice what the file itself has
PIXELS = 10**6                  # the readers' budget is 10**8: a smaller one makes a case cheap, and what forgets it shows
HUGE = [0, 1, 2**7, 2**8-1, 2**15-1, 2**16-1, 2**24, 2**31-1, 2**31, 2**32-1, 2**63-1, 2**64-1]

# ---- what is done to a file: (draw, one good file, another of its kind) -> bytes

def _at(draw, a):
    "A place: every second time in the first 512 bytes, where headers are."
    return draw.randrange(min(len(a), 512) if draw.random() < .5 else len(a))

def flip(draw, a, b):
    a = bytearray(a)
    for _ in range(draw.choice([1, 1, 2, 8, 64])): a[_at(draw, a)] ^= 1 << draw.randrange(8)
    return bytes(a)

def scribble(draw, a, b):
    a, n = bytearray(a), draw.choice([1, 2, 4, 16])
    i = _at(draw, a)
    a[i:i+n] = draw.choice([draw.randbytes(n), b'\0'*n, b'\xff'*n])
    return bytes(a)

def number(draw, a, b):
    "A number of an extreme size, of 1 to 8 bytes, in either order."
    i, n, order = _at(draw, a), draw.choice([1, 2, 4, 8]), draw.choice(['little', 'big'])
    return a[:i]+(draw.choice(HUGE) % 2**(8*n)).to_bytes(n, order)+a[i+n:]

def digits(draw, a, b):
    "A number of those that are written out, such as in JSON or PPM."
    found = [*re.finditer(rb'\d+', a[:2**16])]
    if not found: return number(draw, a, b)
    m = draw.choice(found)
    return a[:m.start()]+draw.choice([b'0', b'-1', b'1e999', b'NaN', b'9'*20, b'9'*5000, b'2147483648', b'0.5', b'""', b'[]'])+a[m.end():]

def cut(draw, a, b): return a[:_at(draw, a)]

def splice(draw, a, b): return a[:_at(draw, a)]+b[_at(draw, b):]

def repeat(draw, a, b):
    i, n = _at(draw, a), draw.choice([1, 4, 12, 64, 512])
    times = draw.choice([2, 10, 1000, 100_000])
    return a[:i]+a[i:i+n]*min(times, 2**20//n)+a[i+n:]

def drop(draw, a, b):
    i = _at(draw, a)
    return a[:i]+a[i+draw.choice([1, 4, 12, 64, 512]):]

def insert(draw, a, b):
    i = _at(draw, a)
    return a[:i]+draw.randbytes(draw.choice([1, 4, 64]))+a[i:]

DAMAGES = flip, scribble, number, digits, cut, splice, repeat, drop, insert

def damaged(draw, a, b):
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        if a: a = draw.choice(DAMAGES)(draw, a, b)
    return a

# ---- good files, and traps of their formats: a trap is (draw, good) -> bytes

def saved(write, suffix):
    "The bytes of what `write` puts at a path."
    with tempfile.TemporaryDirectory() as d:
        write(Path(d)/f'a{suffix}')
        return (Path(d)/f'a{suffix}').read_bytes()

def picture(k):
    from PIL import Image
    a = np.random.default_rng(k).integers(0, 256, (17, 23, 3), np.uint8)
    return Image.fromarray(a) if k % 2 else Image.fromarray(a[..., 0])

def ids(k):
    from PIL import Image
    im = Image.fromarray(np.random.default_rng(k).integers(0, 5, (17, 23), np.uint8))
    if k % 2:
        im = im.convert('P')
        im.putpalette(bytes(range(256))*3)
    return im

def image(k, form, make=picture, **kwargs):
    f = io.BytesIO()
    make(k).save(f, form, **kwargs)
    return f.getvalue()

def chunk(kind, data): return struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))

def png_of(w, h, bits=8, kind=0, data=b'', extra=b''):
    head = struct.pack('>IIBBBBB', w, h, bits, kind, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n'+chunk(b'IHDR', head)+extra+chunk(b'IDAT', data)+chunk(b'IEND', b'')

def png_sums(a):
    "A PNG with the check sums that belong to its chunks."
    out, at = [a[:8]], 8
    while at+8 <= len(a) and len(out) < 10_000:
        n = int.from_bytes(a[at:at+4], 'big')
        out.append(a[at:at+4]+a[at+4:at+8+n]+struct.pack('>I', zlib.crc32(a[at+4:at+8+n])))
        at += 12+n
    return b''.join(out)+a[at:]

@lru_cache
def zeros(n, level=9): return zlib.compress(bytes(n), level)

def _side(draw): return draw.choice([0, 1, 999, 65_535, 100_000, 2**31-1, 2**32-1])

PNG_TRAPS = [
    lambda draw, a: png_of(_side(draw), _side(draw), draw.choice([1, 8, 16]), draw.choice([0, 2, 3, 4, 6]), zeros(10**7)),
    lambda draw, a: png_of(10_000, 10_000, 1, 0, zeros(1251*10_000)),
    lambda draw, a: png_of(9, 9, 8, 0, zeros(90), chunk(b'zTXt', b'x\0\0'+zeros(2*10**8))),
    lambda draw, a: png_of(9, 9, 8, 0, zeros(90), chunk(b'iTXt', b'x\0\1\0\0\0'+zeros(10**8))*3),
    lambda draw, a: png_of(9, 9, 8, 0, zeros(90), chunk(b'iCCP', b'x\0\0'+zeros(2*10**8))),
    lambda draw, a: png_of(9, 9, 8, 0, zeros(90), chunk(b'acTL', struct.pack('>II', draw.choice([2, 2**31-1]), 0))),
    lambda draw, a: png_of(9, 9, 8, 0, zeros(90), chunk(b'eXIf', b'II*\0'+draw.randbytes(40))),
    lambda draw, a: png_of(9, 9, 8, 0, zeros(90), chunk(b'tEXt', b'x\0y')*20_000),
    lambda draw, a: png_of(9, 9, 8, 0, zeros(2*10**8))]

def jpeg_size(draw, a):
    i = next(i for i in range(len(a)) if a[i:i+2] in (b'\xff\xc0', b'\xff\xc2'))
    return a[:i+5]+struct.pack('>HH', draw.choice([0, 999, 65_535]), draw.choice([0, 1, 65_500]))+a[i+9:]

def jpeg_scans(draw, a):
    "A progressive JPEG of which one scan stands there a thousand times: each goes over all of its pixels."
    from PIL import Image
    f = io.BytesIO()
    Image.new('L', (1000, 1000)).save(f, 'JPEG', progressive=True)
    a = f.getvalue()
    at = [m.start() for m in re.finditer(b'\xff\xda', a)]
    scan = a[at[-1]:-2]
    return a[:-2]+scan*draw.choice([1000, 10_000])+a[-2:]

JPEG_TRAPS = [jpeg_size, jpeg_scans,
    lambda draw, a: a[:2]+b'\xff\xe1'+struct.pack('>H', 48)+b'Exif\0\0II*\0'+draw.randbytes(36)+a[2:],
    lambda draw, a: a[:2]+b'\xff\xe2'+struct.pack('>H', 30)+b'MPF\0II*\0\x08\0\0\0'+draw.randbytes(16)+a[2:],
    lambda draw, a: a[:2]+(b'\xff\xfe\xff\xff'+b'x'*65533)*30+a[2:]]

BMP_TRAPS = [
    lambda draw, a: a[:18]+struct.pack('<ii', draw.choice([-1, 1, 65_535, 2**31-1]), draw.choice([-2**31, -1, 30_000, 2**31-1]))+a[26:],
    lambda draw, a: a[:28]+struct.pack('<HI', draw.choice([1, 4, 8, 16, 32]), draw.choice([0, 1, 2, 3, 6]))+a[34:],
    lambda draw, a: a[:46]+struct.pack('<I', draw.choice([0, 2**31, 2**32-1]))+a[50:]]

def tiff_of(tags, data=b'', after=b'', next=0):
    "A TIFF written by hand: {tag: (kind, numbers)}, then `data`, which begins at 8."
    start = 8+len(data)+len(data) % 2
    more = start+2+12*len(tags)+4
    entries, far = [], b''
    for tag, (kind, values) in sorted(tags.items()):
        packed = values if isinstance(values, bytes) else b''.join(struct.pack({3: '<H', 4: '<I'}[kind], v) for v in values)
        n = len(packed)//{1: 1, 2: 1, 3: 2, 4: 4}[kind]
        if len(packed) > 4: packed, far = struct.pack('<I', more+len(far)), far+packed+b'\0'*(len(packed) % 2)
        entries.append(struct.pack('<HHI', tag, kind, n)+packed.ljust(4, b'\0'))
    return (b'II*\0'+struct.pack('<I', start)+data+b'\0'*(len(data) % 2)+struct.pack('<H', len(entries))
            +b''.join(entries)+struct.pack('<I', next)+far+after)

def plain_tiff(w=8, h=8, data=None, packed=1, samples=1, **more):
    data = bytes(w*h*samples) if data is None else data
    tags = {256: (4, [w]), 257: (4, [h]), 258: (3, [8]*samples), 259: (3, [packed]), 262: (3, [1]), 273: (4, [8]), 277: (3, [samples]),
            278: (4, [h]), 279: (4, [len(data)])} | {int(k[1:]): v for k, v in more.items()}
    return tiff_of(tags, data)

def tiff_chain(n, ring=False):
    "A TIFF whose every page is followed by another one, of no tags; in a ring the last one by the first of these."
    a = plain_tiff()
    first, at = len(a), struct.unpack_from('<I', a, 4)[0]
    at += 2+12*struct.unpack_from('<H', a, at)[0]
    pages = b''.join(struct.pack('<HI', 0, first+6*(i+1) if i < n-1 else first*ring) for i in range(n))
    return a[:at]+struct.pack('<I', first)+a[at+4:]+pages

def ome(text): return plain_tiff(t270=(2, b'<?xml version="1.0"?>'+text.encode()+b'\0'))

_OME = '''<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0"
 DimensionOrder="XYCZT" Type="uint8" SizeX="8" SizeY="8" SizeC="{c}" SizeZ="1" SizeT="1">{inside}</Pixels></Image></OME>'''
_LOL = '<!DOCTYPE l ['+'<!ENTITY a0 "lol">'+''.join(f'<!ENTITY a{i} "{f"&a{i-1};"*10}">' for i in range(1, 10))+']><OME>&a9;</OME>'

TIFF_TRAPS = [
    lambda draw, a: plain_tiff(t256=(4, [_side(draw)]), t257=(4, [_side(draw)])),
    lambda draw, a: plain_tiff(t322=(4, [draw.choice([16, 65_536])]), t323=(4, [65_536]), t324=(4, [8]), t325=(4, [64])),
    lambda draw, a: plain_tiff(data=zeros(2*10**8), packed=draw.choice([8, 32946])),
    lambda draw, a: plain_tiff(t277=(3, [65_535])),
    lambda draw, a: plain_tiff(999, 999, data=zeros(10**6), packed=8, t277=(3, [65_535])),
    lambda draw, a: plain_tiff(t279=(4, [draw.choice([2**32-1, 2**31])])),
    lambda draw, a: plain_tiff(t278=(4, [draw.choice([0, 2**32-1])])),
    lambda draw, a: plain_tiff(t258=(3, [draw.choice([0, 1, 3, 12, 16, 32, 64, 65_535])]), t339=(3, [draw.choice([1, 2, 3, 4, 6])])),
    lambda draw, a: tiff_chain(draw.choice([3, 1000, 100_000])),
    lambda draw, a: tiff_chain(draw.choice([1, 2, 100]), ring=True),
    lambda draw, a: ome(_OME.format(c=2, inside='<TiffData IFD="0"><UUID FileName="../secret.tif">urn:uuid:2</UUID></TiffData>')),
    lambda draw, a: ome(_OME.format(c=10**9, inside='<TiffData/>')),
    lambda draw, a: ome(_LOL),
    lambda draw, a: plain_tiff(t270=(2, b'ImageJ=1.5\nimages=%d\nslices=%d\nhyperstack=true\n\0' % (draw.choice([2, 10**9]), 10**9))),
    lambda draw, a: plain_tiff(t270=(2, b'{"shape": [%d, 8, 8]}\0' % draw.choice([2, 10**12]))),
    lambda draw, a: plain_tiff(t330=(4, [72]*50_000)),
    lambda draw, a: b'II+\0\x08\0\0\0'+struct.pack('<QQ', 16, draw.choice([1, 2**60]))+draw.randbytes(60)]

WEBP_TRAPS = [
    lambda draw, a: b'RIFF'+struct.pack('<I', 22)+b'WEBPVP8X'+struct.pack('<I', 10)+bytes([2, 0, 0, 0])+b'\xff\xff\xff'*2+a[12:],
    lambda draw, a: image(0, 'WEBP', save_all=True, append_images=[picture(i) for i in range(2, 30)]),
    lambda draw, a: a+b'junk\0\0\0\0'*50_000]

PPM_TRAPS = [
    lambda draw, a: b'%s\n%d %d\n%d\n' % (draw.choice([b'P1', b'P2', b'P3', b'P4', b'P5', b'P6']), _side(draw), _side(draw), draw.choice([0, 1, 255, 65_535, 10**9])),
    lambda draw, a: b'P%c\n%d 3\n-1.0\n' % (draw.choice(b'fF'), _side(draw))+bytes(100),
    lambda draw, a: b'P3\n'+b'#'*10**5+b'\n9 9\n255\n'+b' '*10**5+b'9'*10**5,
    lambda draw, a: b'P2\n'+b'9'*10**5+b' 2\n255\n1 2']

def gif_frames(n):
    a = image(0, 'GIF')
    i = a.index(b',')
    return a[:i]+(b',\0\0\0\0\1\0\1\0\0\2\2D\1\0')*n+b';'

GIF_TRAPS = [
    lambda draw, a: a[:6]+struct.pack('<HH', 65_535, 65_535)+a[10:],
    lambda draw, a: (lambda i: a[:i+5]+struct.pack('<HH', 65_535, 65_535)+a[i+9:])(a.index(b',')),
    lambda draw, a: gif_frames(draw.choice([2, 50_000]))]

# ---- weights, models, checkpoints

def state(k): 
    import torch
    return {f'conv{i}.weight': torch.full((3, 3), float(i+k)) for i in range(4)}

def pth(k, old=False, **kwargs):
    import torch
    return saved(lambda f: torch.save(dict(state(k), **kwargs), f, _use_new_zipfile_serialization=not old), '.pth')

def zip_parts(a): 
    with zipfile.ZipFile(io.BytesIO(a)) as z: return {i.filename: z.read(i) for i in z.infolist()}

def zip_of(parts, **kwargs):
    f = io.BytesIO()
    with warnings.catch_warnings(action='ignore'), zipfile.ZipFile(f, 'w', **kwargs) as z:
        for name, data in parts.items(): z.writestr(name, data)
    return f.getvalue()

def in_pickle(draw, a, b):
    "Damage to the pickle inside of a .pth."
    parts, others = zip_parts(a), zip_parts(b)
    name = next(n for n in parts if n.endswith('.pkl'))
    return zip_of(parts | {name: damaged(draw, parts[name], next(v for n, v in others.items() if n.endswith('.pkl')))})

def pickle_of(body):
    def trap(draw, a):
        parts = zip_parts(a)
        name = next(n for n in parts if n.endswith('.pkl'))
        return zip_of(parts | {name: b'\x80\x02'+(body(draw, parts[name]) if callable(body) else body)+b'.'})
    return trap

def _word(k): return b'X'+struct.pack('<I', len(k))+k

def spread(draw, a):
    "Tensors of a billion numbers that stand on one."
    import torch
    wide = torch.zeros(1).expand(10**9)
    return saved(lambda f: torch.save(dict(told={}, model=dict(w=wide), opt={}, epoch=0, steps=0, generators=[], w=wide), f), '.pth')

PTH_TRAPS = [spread,
    pickle_of(b'cos\nsystem\n'+_word(b'touch /tmp/fcn_nb_was_here')+b'\x85R'),
    pickle_of(b'cbuiltins\neval\n'+_word(b'1/0')+b'\x85R'),
    pickle_of(b'}'+_word(b'a')+b'cbuiltins\nbytearray\nJ'+struct.pack('<i', 2*10**9)+b'\x85Rs'),
    pickle_of(b'}'+_word(b'a')+b'ctorch._utils\n_rebuild_tensor\n)Rs'),
    pickle_of(b'K\x01'+b''.join(b'q'+bytes([i])+b'h'+bytes([i])+b'\x86' for i in range(60))),
    pickle_of(b'(' * 100_000+b'K\x01'+b't'*100_000),
    pickle_of(b']'*10+b'a'*9+b'}'*50_000),
    lambda draw, a: zip_of({**zip_parts(a), 'archive/data/9': bytes(10**7)}, compression=zipfile.ZIP_DEFLATED),
    lambda draw, a: zip_of({n: v[:len(v)//2] for n, v in zip_parts(a).items()})]

def checkpoint(k):
    import torch
    t = state(k)
    return saved(lambda f: torch.save(dict(told=dict(lr=.1, seed=k), model=t, opt={}, grads={}, epoch=k, steps=k, generators=[], ranks=1), f), '.resume')

CHECKPOINT_TRAPS = [*PTH_TRAPS,
    *[partial(lambda draw, a, change: _checkpoint_with(change), change=c)
      for c in (dict(told=3), dict(told=None), dict(told=dict(lr='x'*10**6)), dict(ranks='x'), dict(epoch={}), dict(told={1: 2}))]]

def _checkpoint_with(change):
    import torch
    good = torch.load(io.BytesIO(checkpoint(0)), weights_only=True)
    return saved(lambda f: torch.save(good | change, f), '.resume')

def safetensors(k):
    from safetensors.torch import save
    return save(state(k), {'preprocess': json.dumps(dict(order='RGB', mean=[0., 0, 0], std=[1., 1, 1]))})

@lru_cache
def model_file(k):
    import torch
    from fcn_nb.models import fcn
    from fcn_nb.predict import save_model
    torch.manual_seed(k)
    return saved(lambda f: save_model(fcn('mini', classes=3+k, stride=32, fc_width=4), f), '.safetensors')

def header(a): return json.loads(a[8:8+int.from_bytes(a[:8], 'little')]), a[8+int.from_bytes(a[:8], 'little'):]

def with_header(told, data):
    told = told if isinstance(told, bytes) else json.dumps(told).encode()
    return len(told).to_bytes(8, 'little')+told+data

def in_header(draw, a, b):
    n, m = (int.from_bytes(x[:8], 'little') for x in (a, b))
    return with_header(damaged(draw, a[8:8+n], b[8:8+m]), a[8+n:])

def _every(tree, path=()):
    "The ways to all values of a JSON tree."
    yield path
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for k, v in inside: yield from _every(v, (*path, k))

ODD = None, True, -1, 0, .5, 1e300, 10**9, 2**70, '', 'x', 'x'*10**5, '../../x', [], {}, [[]], [1]*10**5, {'x': {}}

def changed(draw, tree):
    "One value of a JSON tree is something else."
    *way, last = draw.choice([p for p in _every(tree) if p])
    at = tree
    for k in way: at = at[k]
    at[last] = draw.choice(ODD)
    return tree

def settings(draw, a):
    told, data = header(a)
    inside = told['__metadata__']
    key = draw.choice([*inside])
    inside[key] = json.dumps(changed(draw, json.loads(inside[key])))
    return with_header(told, data)

SAFETENSORS_TRAPS = [settings,
    lambda draw, a: with_header(changed(draw, header(a)[0]), header(a)[1]),
    lambda draw, a: draw.choice(HUGE).to_bytes(8, 'little')+a[8:],
    lambda draw, a: with_header(b'['*10**5, b''),
    lambda draw, a: with_header(b'{"a":'*10**5, b''),
    lambda draw, a: with_header({'a': dict(dtype='F32', shape=[2**31, 2**31], data_offsets=[0, 4])}, bytes(4)),
    lambda draw, a: with_header({'a': dict(dtype='F32', shape=[0, 2**62], data_offsets=[0, 0])}, b''),
    lambda draw, a: with_header({f'{i}': dict(dtype='F32', shape=[0], data_offsets=[0, 0]) for i in range(10_000)}, b'')]

def varint(n):
    out = b''
    while n > 127: out, n = out+bytes([n & 127 | 128]), n >> 7
    return out+bytes([n])

def field(i, data): return varint(i << 3 | 2)+varint(len(data))+data

def blob(*shape): return field(5, np.arange(np.prod(shape), dtype='<f4').tobytes())+field(7, field(1, b''.join(map(varint, shape))))

def caffemodel(k):
    layer = field(1, b'conv%d' % k)+field(7, blob(2, 3, 2, 2))+field(7, blob(2))
    old = field(4, b'fc')+field(6, blob(3, 2))
    return field(1, b'net')+field(100, layer)+(field(2, old) if k % 2 else b'')

CAFFE_TRAPS = [
    lambda draw, a: field(100, field(1, b'x')+field(7, field(7, field(1, varint(draw.choice(HUGE))*draw.choice([1, 4, 40])))+field(5, bytes(16)))),
    lambda draw, a: field(2, b'')*300_000,
    lambda draw, a: field(100, field(7, b''))*150_000,
    lambda draw, a: field(100, field(1, b'x')+field(7, field(7, varint(8)+varint(1))*60_000)),
    lambda draw, a: b'\x13'*10**6,
    lambda draw, a: field(100, field(1, b'x')+field(7, b'\x2d\0\0\x80\x7f'*10)),
    lambda draw, a: field(100, field(1, b'\xff'*2000)+field(7, blob(2))),
    lambda draw, a: a+varint(100 << 3 | 2)+varint(2**60)]

@lru_cache
def onnx_file(k=0):
    from fcn_nb.export import export_onnx
    from fcn_nb.models import fcn
    with contextlib.redirect_stdout(io.StringIO()):
        return saved(lambda f: export_onnx(fcn('mini', classes=3+k, stride=32, fc_width=4), f), '.onnx')

def onnx_with(change):
    def trap(draw, a):
        import onnx
        proto = onnx.load_model_from_string(a)
        change(draw, proto, onnx.helper)
        return proto.SerializeToString()
    return trap

def _grows(op):
    "An operation in front that makes of nothing ten billion numbers."
    def change(draw, proto, helper):
        shape = helper.make_tensor('big', 7, [4], [1, 1, 10**5, 10**5])
        proto.graph.initializer.append(shape)
        end = proto.graph.output[0].name
        for n in proto.graph.node: n.output[:] = ['was' if o == end else o for o in n.output]
        if op == 'ConstantOfShape': nodes = [helper.make_node(op, ['big'], ['huge'])]
        if op == 'Expand':
            proto.graph.initializer.append(helper.make_tensor('one', 1, [1], [1.]))
            nodes = [helper.make_node(op, ['one', 'big'], ['huge'])]
        if op == 'Tile':
            proto.graph.initializer.append(helper.make_tensor('one', 1, [1, 1, 1, 1], [1.]))
            nodes = [helper.make_node(op, ['one', 'big'], ['huge'])]
        nodes += [helper.make_node('ReduceSum', ['huge'], ['sum'], keepdims=0), helper.make_node('Add', ['was', 'sum'], [end])]
        proto.graph.node.extend(nodes)
    return change

def _elsewhere(draw, proto, helper):
    t = proto.graph.initializer[0]
    t.ClearField('raw_data')
    t.data_location = 1
    t.external_data.add(key='location', value='/etc/passwd')

def _dims_of(draw, proto, helper):
    t = draw.choice(proto.graph.initializer)
    t.dims[:] = [draw.choice(HUGE[:-1]) for _ in t.dims]

def _attribute(draw, proto, helper):
    node = draw.choice([n for n in proto.graph.node if n.attribute])
    a = draw.choice(node.attribute)
    if a.ints: a.ints[:] = [draw.choice(HUGE[:-1]) for _ in a.ints]
    else: a.i = draw.choice(HUGE[:-1])

def _operation(draw, proto, helper): draw.choice(proto.graph.node).op_type = draw.choice(['Loop', 'If', 'Resize', 'Tile', 'MatMul', 'Nope', 'Range', 'OneHot'])

def _told(draw, proto, helper):
    p = draw.choice(proto.metadata_props)
    p.value = json.dumps(draw.choice(ODD))

def _wired(draw, proto, helper):
    names = [o for n in proto.graph.node for o in n.output]
    node = draw.choice(proto.graph.node)
    if node.input: node.input[0] = draw.choice(names)

ONNX_TRAPS = [onnx_with(f) for f in (*map(_grows, ('ConstantOfShape', 'Expand', 'Tile')), _elsewhere, _dims_of, _attribute, _operation, _told, _wired)]

# ---- MATLAB and HDF5

def mat(k, packed=None):
    from scipy.io import savemat
    a = np.random.default_rng(k).integers(0, 5, (17, 23), np.uint8)
    f = io.BytesIO()
    savemat(f, dict(S=a, GTcls=dict(Segmentation=a, Boundaries=a)), do_compression=bool(k % 2) if packed is None else packed)
    return f.getvalue()

def element(kind, data): return struct.pack('<II', kind, len(data))+data+b'\0'*(-len(data) % 8)

def packed(*parts): return struct.pack('<II', 15, len(c := zlib.compress(b''.join(parts))))+c

def mat5(*elements): return b'MATLAB 5.0 MAT-file'.ljust(124)+b'\0\1IM'+b''.join(elements)

def mat_head(kind, shape, name=b'S'):
    return element(6, struct.pack('<II', kind, 0))+element(5, struct.pack(f'<{len(shape)}i', *shape))+element(1, name)

def mat_struct(length, names, *values, name=b'GTcls'):
    return element(14, mat_head(2, (1, 1), name)+struct.pack('<HHi', 5, 4, length)+element(1, names)+b''.join(values))

def in_elements(draw, a, b):
    "Damage to what a compressed file holds."
    return mat5(packed(damaged(draw, mat(0, False)[128:], mat(1, False)[128:])))

MAT_TRAPS = [
    lambda draw, a: mat5(element(14, mat_head(9, [draw.choice([-1, 0, 1, 2**16, 2**31-1]) for _ in range(draw.choice([1, 2, 40]))])+element(2, bytes(12)))),
    lambda draw, a: mat5(struct.pack('<II', 15, len(z := zeros(2*10**8)))+z),
    lambda draw, a: mat5(*[packed(element(14, mat_head(9, (2**12, 2**10), b'T')+element(2, bytes(2**22))))]*200, element(14, mat_head(9, (1, 1))+element(2, b'1'))),
    lambda draw, a: mat5(packed(mat_struct(draw.choice([1, -1, 0]), b'a'*4_000_000))),
    lambda draw, a: mat5(b''.join([element(14, mat_head(9, (1, 1), b'T'))]*20_000)),
    lambda draw, a: mat5(element(14, mat_head(9, (2, 3))+element(draw.randrange(20), b'123456'))),
    lambda draw, a: mat5(element(14, b''))]

def hdf5(fill):
    import h5py
    def write(path):
        with h5py.File(path, 'w', userblock_size=512) as f: fill(f)
    return saved(write, '.mat')

def mat73(k):
    a = np.random.default_rng(k).integers(0, 5, (23, 17), np.uint8)
    return hdf5(lambda f: f.create_dataset('S', data=a, **(dict(compression=1) if k % 2 else {})))

def hdf5_trap(fill, name='S'): return lambda draw, a: hdf5(partial(fill, draw=draw, name=name))

def _link(f, draw, name):
    import h5py
    f['b'] = np.zeros((3, 3))
    f[name] = draw.choice([h5py.ExternalLink('/etc/passwd', '/x'), h5py.SoftLink('/S'), h5py.SoftLink('/b')])

def _virtual(f, draw, name):
    import h5py
    layout = h5py.VirtualLayout((9, 9), 'u1')
    layout[:] = h5py.VirtualSource('secret.h5', 'x', (9, 9))
    f.create_virtual_dataset(name, layout)

def _strings(f, draw, name):
    import h5py
    f.create_dataset(name, (3, 3), draw.choice([h5py.string_dtype(), h5py.vlen_dtype('u1'), np.dtype([('a', 'u1')]), h5py.ref_dtype, np.dtype('(3,)u1'), 'c16']))

def _huge(f, draw, name): f.create_dataset(name, draw.choice([(3000, 3000), (2**16, 2**16), (1, 2**40), (2**20, 2**20, 2**20)]), draw.choice(['f8', 'u1']), chunks=draw.choice([None, True]))

def _packed_chunk(f, name, shape, chunk):
    d = f.create_dataset(name, shape, 'u1', chunks=chunk, maxshape=(None,)*len(shape), compression=9)
    d.id.write_direct_chunk((0,)*len(shape), zeros(int(np.prod(chunk))))

def _wide(f, draw, name):
    "A chunk that is far larger than what is asked of it, zeros in a few bytes."
    _packed_chunk(f, name, (9, 9), (9000, 9000))

def _none(f, draw, name):
    import h5py
    f.create_dataset(name, data=h5py.Empty('f4'))

def hdf5_driver(draw, a):
    "A block for a driver of its own, which says that it has gigabytes."
    b = bytearray(a)+struct.pack('<BxxxI8s', 0, draw.choice(HUGE[7:]) % 2**32, b'NCSAfami')
    b[512+48:512+56] = struct.pack('<Q', len(a)-512)
    return bytes(b)

HDF5_FILLS = _link, _virtual, _strings, _huge, _wide, _none
HDF5_TRAPS = [hdf5_trap(fill) for fill in HDF5_FILLS]+[
    hdf5_trap(lambda f, draw, name: f.create_group(name)), hdf5_trap(lambda f, draw, name: f.create_dataset(name, data=3.)),
    hdf5_trap(lambda f, draw, name: f.create_dataset(name, (1,)*draw.choice([1, 3, 32]), 'u1')), hdf5_driver]

_NYUD = dict(images=(3, 3, 12, 9), depths=(3, 12, 9), rawDepths=(3, 12, 9), labels=(3, 12, 9))

def _nyud_fill(f, k=0, **other):
    draw = np.random.default_rng(k)
    for name, shape in _NYUD.items():
        kind = dict(images='u1', labels='u2').get(name, 'f4')
        f.create_dataset(name, data=draw.integers(1, 5, shape).astype(kind), **(dict(compression=1) if k % 2 else {}))

def nyud(k): return hdf5(partial(_nyud_fill, k=k))

def nyud_trap(fill):
    def trap(draw, a):
        def write(f):
            _nyud_fill(f)
            name = draw.choice([*_NYUD])
            del f[name]
            fill(f, draw=draw, name=name)
        return hdf5(write)
    return trap

def _nyud_wide(f, draw, name):
    shape = _NYUD[name]
    _packed_chunk(f, name, shape, (1,)*(len(shape)-2)+(9000, 9000))

def _nyud_large(f, draw, name):
    for n in _NYUD:
        if n in f: del f[n]
        f.create_dataset(n, (3, 3, 30_000, 30_000) if n == 'images' else (3, 30_000, 30_000), 'f8')

def mapping(k, name='mapClass', values=None):
    from scipy.io import savemat
    f = io.BytesIO()
    a = np.array([range(1+k, 6+k)]) if values is None else np.array(values)
    savemat(f, {name: a, 'className': 'x'})
    return f.getvalue()

_ODD_NUMBERS = [[300]], [[-1]], [[np.nan]], [[1e300]], [[2.5]], [], [[1j]], [[True]], [[2**40]], [['a']], [[1]*10**5]

# ---- lists and archives

def text(k): return '\n'.join(['a', 'b.png', 'images/c.jpg', 'd 1'][k:]).encode()+b'\n'

LIST_TRAPS = [
    lambda draw, a: b'\n'.join(b'%d' % i for i in range(30_000))+b'\n1\n',
    lambda draw, a: b'a\n'*30_000,
    lambda draw, a: b'\n'.join(draw.choice([b'..', b'/', b'../../etc/passwd', b'C:\\x', b'a/'*2000+b'b', b'-rf', b'~', b'.', b'\xe2\x80\xae.png']) for _ in range(5)),
    lambda draw, a: b'x'*10**6, lambda draw, a: b'\0'*1000, lambda draw, a: b'\xff\xfe'+'a\nb\n'.encode('utf-16-le'),
    lambda draw, a: (b'/'*4000+b'\n')*300, lambda draw, a: b'\n'*10**6, lambda draw, a: (b'a'+b', '*2000+b'x\n')*300]

def codes(k): return [b'sky\nroad\ncar\n', b'sky 1 2 3\nroad 4 5 6\ncar 7 8 9\n'][k]

CODES_TRAPS = [*LIST_TRAPS,
    lambda draw, a: (b','*4000+b'1\n')*500, lambda draw, a: (b'a'+b' ,'*2000+b'\n')*500, lambda draw, a: (b'1'*4000+b'\n')*200,
    lambda draw, a: (b'1 2 3'+b' '*4000+b'x\n')*100, lambda draw, a: (b'a: '+b' '*4000+b'1,2\n')*200,
    lambda draw, a: b'a 999 1 1\nb 1 2 3\n', lambda draw, a: '²\n³\n'.encode(), lambda draw, a: b'__ignore__\n_background_\n', lambda draw, a: b'void\n'*3,
    lambda draw, a: '0 sky\n١ road\n'.encode(), lambda draw, a: '١٢ ٣ ٤ sky\n١ ٣ ٤ road\n'.encode()]

def tar(k, entries=None, mode='w', format=tarfile.GNU_FORMAT):
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode=mode, format=format) as t:
        for name, data in (entries or {'a/': None, 'a/x.txt': b'hello'*k, 'b.png': bytes(700)}).items():
            i = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if data is None: i.type = tarfile.DIRTYPE
            if isinstance(data, bytes): i.size = len(data)
            t.addfile(i, io.BytesIO(data) if isinstance(data, bytes) else None)
    return f.getvalue()

def tar_sums(a):
    "A tar with the check sums that belong to its headers, as far as they can be followed."
    a, at = bytearray(a), 0
    while at+512 <= len(a) and any(a[at:at+512]):
        a[at+148:at+156] = b'        '
        a[at+148:at+156] = b'%06o\0 ' % sum(a[at:at+512])
        try: size = int(a[at+124:at+136].split(b'\0')[0] or b'0', 8)
        except ValueError: break
        at += 512+(size+511)//512*512
    return bytes(a)

def in_tar(draw, a, b): return tar_sums(damaged(draw, tar(0), tar(1)))
def in_tgz(draw, a, b): return draw.choice([gzip.compress, bz2.compress])(in_tar(draw, a, b))

def special(kind, name='x', target='/etc/passwd'):
    i = tarfile.TarInfo(name)
    i.type, i.linkname = kind, target
    return {name: i}

CLIMBS = '../x', '/fcn_nb_x', 'a/../../x', 'a/./../../../x', '..\\x', 'C:x', '..', '.', '', 'a\0b', 'x'*300, '../target_x/y', '~/x', '//x', 'a//..//..//x'

@lru_cache
def packed_zeros(n=7*10**7): return gzip.compress(bytes(n))

def long_name(kind):
    "A name of 70 MB, zeros in a few bytes: it stands in front of its entry, as a file of its own."
    i = tarfile.TarInfo('././@LongLink')
    i.type, i.size = kind, 7*10**7
    return gzip.compress(i.tobuf(tarfile.GNU_FORMAT))+packed_zeros()+gzip.compress(bytes(-i.size % 512)+tar(0))

@lru_cache
def tail(n=10**10):
    "A tar with ten billion zeros behind its end, in some kilobytes."
    part = bz2.compress(bytes(10**7))
    return bz2.compress(tar(0))+part*(n//10**7)

TAR_TRAPS = [
    lambda draw, a: tar(0, {draw.choice(CLIMBS): b'1'}, draw.choice(['w', 'w:gz'])),
    lambda draw, a: tar(0, special(draw.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]))),
    lambda draw, a: tar(0, special(tarfile.SYMTYPE, 'in', '..') | {'in/x': b'1'}),
    lambda draw, a: tar(0, {'z': bytes(4*10**6)}, draw.choice(['w:gz', 'w:bz2', 'w:xz'])),
    lambda draw, a: long_name(draw.choice([tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])),
    lambda draw, a: tail(),
    lambda draw, a: tar(0, {f'{i}': b'' for i in range(300)}, 'w:gz'),
    lambda draw, a: tar(0, {'a': b'1', 'a/b': b'2'}), lambda draw, a: tar(0, {'/'.join('a'*60): b'1'}),
    lambda draw, a: b'\x1f\x8b'+a, lambda draw, a: b'']

def zip_file(k): return zip_of({'a/': b'', 'a/x.txt': b'hello'*k, 'b.png': bytes(700)}, compression=zipfile.ZIP_DEFLATED if k else zipfile.ZIP_STORED)

def zip_of_link(draw, a):
    f = io.BytesIO()
    with zipfile.ZipFile(f, 'w') as z:
        i = zipfile.ZipInfo('x')
        i.external_attr = draw.choice([0o120777, 0o010777, 0o020777]) << 16
        z.writestr(i, b'/etc/passwd')
    return f.getvalue()

def zip_overlaps(draw, a):
    "A central directory in which all entries have the same numbers: a bomb that is not nested."
    z = zip_of({'x': bytes(10**6)}, compression=zipfile.ZIP_DEFLATED)
    at = z.index(b'PK\1\2')
    entry, end = z[at:z.index(b'PK\5\6')], z[z.index(b'PK\5\6'):]
    n = 20_000
    return z[:at]+entry*n+end[:8]+struct.pack('<HHII', n, n, len(entry)*n, at)+b'\0\0'

ZIP_TRAPS = [zip_of_link, zip_overlaps,
    lambda draw, a: zip_of({draw.choice(CLIMBS) or '/': b'1'}),
    lambda draw, a: zip_of({'z': bytes(4*10**6)}, compression=draw.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])),
    lambda draw, a: zip_of({'a': b'1', 'a/b': b'2'}), lambda draw, a: zip_of({f'{i}': b'' for i in range(300)}),
    lambda draw, a: zip_of({'x': b'1'}).replace(struct.pack('<I', 1), struct.pack('<I', draw.choice([0, 2**31, 2**32-1])))]

def npy(k):
    f = io.BytesIO()
    np.save(f, np.random.default_rng(k).integers(0, 256, (17, 23, 3), np.uint8) if k else np.zeros((17, 23), np.uint8))
    return f.getvalue()

def npy_head(text, data=bytes(64)): return b'\x93NUMPY\1\0'+struct.pack('<H', len(text))+text.encode()+data

NPY_TRAPS = [lambda draw, a: npy_head(draw.choice([
    "{'descr': '|u1', 'fortran_order': False, 'shape': (%d, %d, 3), }" % (draw.choice(HUGE), draw.choice(HUGE)),
    "{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }", "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 4), }", "("*5000, "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (8, 8), }",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (2, 4), }", "{'descr': '|u1', 'fortran_order': 3, 'shape': (-1, 8), }", "__import__('os').system('x')",
    "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }" % ('('+'1, '*70+')'), "{'descr': '|S0', 'fortran_order': False, 'shape': (8, 8), }"])),
    lambda draw, a: b'\x80\x04cos\nsystem\n(S"x"\ntR.', lambda draw, a: zip_of({'a.npy': a})]

# ---- the readers

_BESIDE = {}     # made once: what makes them writes too

def folder_of(path, **files):
    "Files beside the one that is read."
    for name, data in files.items():
        if name not in _BESIDE: _BESIDE[name] = data() if callable(data) else data
        file = path.parent/name.replace('__', '/')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_BESIDE[name])

@lru_cache
def _net(channels=3):
    import torch
    from fcn_nb.models import fcn
    torch.manual_seed(0)
    return fcn('mini', classes=3, stride=32, fc_width=4)

def read_by_parts(path):
    from fcn_nb.large import LargeImage, large_size
    large_size(path)
    with contextlib.closing(LargeImage(_net(), path)) as a:
        h, w = a.size
        for at in {(0, 0), (max(h-64, 0), max(w-64, 0))}: a[at[0]:at[0]+64, at[1]:at[1]+64]

def bands(path):
    from fcn_nb.core import bands_in, read_bands
    bands_in(path)
    read_bands(path)

def read_white(path):
    from fcn_nb.core import read_image, wide_top
    read_image(path, 65535)
    wide_top(path)

def read_mask_both(path):
    from fcn_nb.data import read_mask
    try: read_mask(path)
    finally: read_mask(path, table={(i, i, i): i for i in range(256)})

def nyud_file(path):
    from fcn_nb.datasets import nyud_pairs
    folder_of(path, **{'splits.mat': lambda: mapping(0, 'trainNdxs', [[1], [2], [3]]), 'classMapping40.mat': lambda: mapping(0)})
    nyud_pairs(path, 'trainval', inputs='rgbd')[0]

def nyud_mapping(path, which):
    from fcn_nb.datasets import nyud_pairs
    folder_of(path, **{'nyu.mat': lambda: nyud(0), 'splits.mat': lambda: mapping(0, 'trainNdxs', [[1], [2], [3]]), 'classMapping40.mat': lambda: mapping(0)})
    path.rename(path.with_name(which))
    nyud_pairs(path.with_name('nyu.mat'), 'trainval')[0]

def depth_map(k):
    from PIL import Image
    f = io.BytesIO()
    Image.fromarray(np.random.default_rng(k).integers(900, 4000, (17, 23)).astype(np.uint16)).save(f, 'PNG')
    return f.getvalue()

def nyud_depth(path):
    from scipy.io import savemat
    from fcn_nb.datasets import nyud_pairs
    here, name = path.parent, 'img_5001'
    folder_of(path, **{f'data__images__{name}.png': lambda: image(1, 'PNG'), 'train.txt': b'5001\n',
              f'segmentation__{name}.mat': lambda: mapping(0, 'segmentation', np.ones((17, 23), np.uint8))})
    (here/'data'/'depth').mkdir(exist_ok=True)
    path.rename(here/'data'/'depth'/f'{name}.png')
    nyud_pairs(here, 'train', inputs='rgb-hha')[0]

def sbd(path):
    from fcn_nb.datasets import sbd_ids
    sbd_ids(path)

def sift(path):
    from fcn_nb.datasets import read_mat
    read_mat(path, 'S')

def names(path):
    from fcn_nb.datasets import read_names
    read_names(path)

def listed(path):
    from fcn_nb.data import read_list
    places = {n: Path(f'images/{n}.jpg') for n in ('a', 'b', 'c', 'd', 'e f', 'g/h')}
    read_list(path, places, places)

def classes(path, name='codes.txt'):
    from fcn_nb.data import classes_in
    path.rename(path.with_name(name))
    classes_in(path.parent)

def archive(path):
    from fcn_nb.download import unpack
    unpack(path, path.parent/'out')

def lib(module, name):
    "A function of the library, imported where it is called."
    def read(path):
        import importlib
        return getattr(importlib.import_module(f'fcn_nb.{module}'), name)(path)
    return read

def training_settings(k):
    settings = [dict(data='scenes:4', epochs=2, lr=.1, best=True), dict(data='folder:a', weights=None, seed=3, size='3x4', loss='dice')][k]
    return json.dumps(dict(generator='fcn_nb', format=1, command='fcn_train', version='0.0.1', fingerprint='a', processes=1, settings=settings), indent=1).encode()

def of_a_training(path):
    from fcn_nb import cli
    cli._settings_in(path, cli.fcn_train)
    cli._changes(path, 'scenes:4', fingerprint='b', processes=2)

SETTINGS_TRAPS = [
    lambda draw, a: b'['*10**5, lambda draw, a: b'{"a":'*10**5, lambda draw, a: b' '*2**20+a, lambda draw, a: b'1'*10**5, lambda draw, a: b'\xef\xbb\xbf'+a,
    lambda draw, a: a.replace(b': 2,', b': '+draw.choice([b'NaN', b'1e999', b'-0', b'2.0', b'true', b'null', b'"2"', b'[2]', b'9'*4000])+b','),
    lambda draw, a: a.replace(b'"epochs"', draw.choice([b'"config"', b'"out"', b'"__class__"', b'"data"', b'"\\u001b[2J"', b'"'+b'e'*10**5+b'"'])),
    lambda draw, a: a.replace(b'"format": 1', b'"format": '+draw.choice([b'1.0', b'true', b'"1"', b'{}', b'"\\n\\u001b[31m"'])),
    lambda draw, a: a.replace(b'"settings": {', b'"settings": {"data": "\\u0000\\ud800", '), lambda draw, a: a.replace(b'"fingerprint": "a"', b'"fingerprint": "\\n'+b'x'*10**5+b'"')]

def one(make, /, *args, **kwargs): return lambda k: make(k, *args, **kwargs)

read_image = lib('core', 'read_image')
# name: a good file of number 0 or 1, its ending, what reads it, traps, damage inside (behind a check sum or in what is compressed)
_TABLE = [
    ('png', one(image, 'PNG'), '.png', read_image, PNG_TRAPS, lambda draw, a, b: png_sums(damaged(draw, a, b))),
    ('jpeg', one(image, 'JPEG', progressive=True), '.jpg', read_image, JPEG_TRAPS),
    ('bmp', one(image, 'BMP'), '.bmp', read_image, BMP_TRAPS),
    ('tiff', one(image, 'TIFF', compression='tiff_adobe_deflate'), '.tif', read_white, TIFF_TRAPS),
    ('webp', one(image, 'WEBP', lossless=True), '.webp', read_image, WEBP_TRAPS),
    ('ppm', one(image, 'PPM'), '.ppm', read_white, PPM_TRAPS),
    ('gif', one(image, 'GIF'), '.gif', read_image, GIF_TRAPS),
    ('mask', one(image, 'PNG', make=ids), '.png', read_mask_both, PNG_TRAPS, lambda draw, a, b: png_sums(damaged(draw, a, b))),
    ('mask_tiff', one(image, 'TIFF', make=ids), '.tif', read_mask_both, TIFF_TRAPS),
    ('bands', lambda k: saved(lambda f: __import__('tifffile').imwrite(f, np.zeros((17, 23, 5), 'u1'), photometric='minisblack', planarconfig=['contig', 'separate'][k], compression='zlib'), '.tif'),
        '.tif', bands, TIFF_TRAPS),
    ('large', lambda k: saved(lambda f: __import__('tifffile').imwrite(f, np.zeros((40, 50, 3), 'u1'), photometric='rgb', tile=(16, 16), compression=['zlib', None][k]), '.tif'),
        '.tif', read_by_parts, TIFF_TRAPS),
    ('npy', npy, '.npy', read_by_parts, NPY_TRAPS),
    ('depth', depth_map, '.png', nyud_depth, PNG_TRAPS, lambda draw, a, b: png_sums(damaged(draw, a, b))),
    ('pth', pth, '.pth', lib('weights', 'read_weights'), PTH_TRAPS, in_pickle),
    ('pth_old', one(pth, old=True), '.pth', lib('weights', 'read_weights'), ()),
    ('safetensors', safetensors, '.safetensors', lib('weights', 'read_weights'), SAFETENSORS_TRAPS, in_header),
    ('model', model_file, '.safetensors', lib('predict', 'load_model'), SAFETENSORS_TRAPS, in_header),
    ('checkpoint', checkpoint, '.resume', lambda path: lib('resume', 'read_checkpoint')(path), CHECKPOINT_TRAPS, in_pickle),
    ('caffemodel', caffemodel, '.caffemodel', lib('caffe', 'load_caffemodel'), CAFFE_TRAPS),
    ('onnx', lambda k: onnx_file(), '.onnx', lib('runtime', 'load_onnx'), ONNX_TRAPS),
    ('mat', mat, '.mat', sbd, MAT_TRAPS, in_elements),
    ('mat73', mat73, '.mat', sift, HDF5_TRAPS),
    ('nyud', nyud, '.mat', nyud_file, [*map(nyud_trap, (*HDF5_FILLS, _nyud_wide, _nyud_large)), hdf5_driver]),
    ('nyud_map', mapping, '.mat', partial(nyud_mapping, which='classMapping40.mat'), [lambda draw, a: mapping(0, 'mapClass', draw.choice(_ODD_NUMBERS))]),
    ('nyud_split', lambda k: mapping(0, 'trainNdxs', [[1], [2+k]]), '.mat', partial(nyud_mapping, which='splits.mat'),
        [lambda draw, a: mapping(0, 'trainNdxs', draw.choice(_ODD_NUMBERS))]),
    ('names', text, '.txt', names, LIST_TRAPS),
    ('list', text, '.txt', listed, LIST_TRAPS),
    ('codes', codes, '.txt', classes, CODES_TRAPS),
    ('colors', lambda k: [b'1 2 3 sky\n4 5 6 road\n', b'sky:1,2,3::\nroad:4,5,6::\n'][k], '.txt', partial(classes, name='label_colors.txt'), CODES_TRAPS),
    ('tar', tar, '.tar', archive, TAR_TRAPS, in_tar),
    ('tgz', lambda k: gzip.compress(tar(k)), '.tgz', archive, TAR_TRAPS, in_tgz),
    ('zip', zip_file, '.zip', archive, ZIP_TRAPS),
    ('settings', training_settings, '.json', of_a_training, SETTINGS_TRAPS)]

def _reader(name, make, suffix, read, traps, inside=None):
    return SimpleNamespace(name=name, make=lru_cache(make), suffix=suffix, read=read, traps=[*traps], inside=inside)

READERS = {row[0]: _reader(*row) for row in _TABLE}

def case(
    reader:str,  # a key of `READERS`
    seed:int,
    index:int,   # the first are the traps of the format, one each
)->bytes:
    "The file of a case; it depends on its three numbers alone."
    r = READERS[reader]
    draw = random.Random(f'{seed} {reader} {index}')
    if index < len(r.traps): return r.traps[index](draw, r.make(0))
    if r.traps and draw.random() < .1: return draw.choice(r.traps)(draw, r.make(0))
    a, b = draw.sample([r.make(0), r.make(1)], 2)
    if r.inside and draw.random() < .5: return r.inside(draw, a, b)
    return damaged(draw, a, b)

# ---- the oracle

class Slow(BaseException): "Out of its seconds; no reader catches it."

def _late(*_): raise Slow

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ALWAYS = ('subprocess.', 'os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'os.fork', 'socket.', 'pickle.find_class', 'os.symlink', 'os.link', 'ctypes.dlopen', 'urllib.', 'http.', 'ftplib.')
_CHANGES = ('os.remove', 'os.rename', 'os.mkdir', 'os.rmdir', 'os.chmod', 'os.truncate', 'shutil.')

_OWN_CODE = '<frozen', '<eval_with_key>'      # Python's modules; what torch.fx makes of a net of ours

class Watch:
    "What a reader does beside reading: noted by Python's audit hook, which cannot be taken off again."
    def __init__(self, folder):
        self.inside = os.path.realpath(folder)+os.sep
        self.free = self.inside, *{os.path.realpath(p)+os.sep for p in (sys.prefix, sys.base_prefix, '/proc', '/sys', '/dev', Path(__file__).parent.parent)}
        self.on, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, args):
        if not self.on: return
        if event == 'open': self._opened(*args[:3])
        elif event == 'exec' and args[0].co_filename.startswith('<') and not args[0].co_filename.startswith(_OWN_CODE): self.seen.append(f'runs code {args[0].co_filename}')
        elif event.startswith(_ALWAYS): self.seen.append(event)
        elif event.startswith(_CHANGES) and any(isinstance(a, (str, os.PathLike)) and not self._lies(a, (self.inside,)) for a in args): self.seen.append(f'{event} {args}')

    def _lies(self, path, places): return (os.path.realpath(os.fspath(path))+os.sep).startswith(places)

    def _opened(self, path, mode, flags):
        if not isinstance(path, (str, os.PathLike)): return
        writes = flags & _WRITES if isinstance(flags, int) else any(c in str(mode) for c in 'wax+')
        if writes and not self._lies(path, (self.inside, '/dev/null/')): self.seen.append(f'writes {path}')
        if not writes and not self._lies(path, self.free): self.seen.append(f'opens {path}')

def _kilobytes(what): return int(re.search(rf'{what}:\s+(\d+)', Path('/proc/self/status').read_text())[1])

def _fresh_peak():
    "From here on the peak of this process's memory is counted anew."
    Path('/proc/self/clear_refs').write_text('5')
    return _kilobytes('VmRSS')

def judged(reader, path, size, watch):
    "(outcome, what was said) of one file: 'read', 'refused', or what is wrong."
    from fcn_nb.core import InputError
    watch.seen, outcome, said = [], 'read', ''
    before = _fresh_peak()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    watch.on = True
    try:
        with warnings.catch_warnings(record=True) as heard, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter('always')
            warnings.simplefilter('ignore', ResourceWarning)      # of a file that is closed a little later
            READERS[reader].read(path)
    except InputError as e: outcome, said = 'refused', str(e)
    except Slow: outcome = 'slow'
    except BaseException as e: outcome, said = 'raises', f'{type(e).__name__}: {str(e)[:300]} at {_where(e)}'
    finally:
        watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
    more = (_kilobytes('VmHWM')-before)/1024
    if watch.seen: return 'does', '; '.join(watch.seen[:3])
    if more > MEGABYTES+2*size/2**20: return 'memory', f'{more:.0f} MB for {size:,} bytes; {outcome}: {said[:200]}'
    if outcome == 'refused' and 'not enough memory' in said: return 'memory', said
    if outcome == 'refused' and (not said.isprintable() or len(said) > 1100): return 'unclear', said[:300]
    if outcome in ('read', 'refused') and heard: return 'warns', f'{heard[0].category.__name__}: {heard[0].message}'[:300]
    return outcome, said

def _where(e):
    ours = [f for f in traceback.extract_tb(e.__traceback__) if 'fcn_nb' in f.filename]
    return f'{Path(ours[-1].filename).name}:{ours[-1].lineno}' if ours else '?'

def _worker(reader, seed, indices, folder, say):
    "Judge the cases one after the other; a line before and behind each."
    signal.signal(signal.SIGPROF, _late)
    r, watch = READERS[reader], Watch(folder)
    _budgets()
    def judge(data):
        for p in Path(folder).iterdir(): shutil.rmtree(p) if p.is_dir() and not p.is_symlink() else p.unlink()
        path = Path(folder)/f'hostile{r.suffix}'
        path.write_bytes(data)
        return judged(reader, path, len(data), watch)
    for k in (0, 1, 0):
        outcome, said = judge(r.make(k))         # what is imported late is so now
    if outcome != 'read': return say(dict(broken=f'the good file is {outcome}: {said}'))
    limit = _kilobytes('VmSize')*1024+2**31
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    for i in indices:
        try: data = case(reader, seed, i)
        except Exception as e: return say(dict(broken=f'its case {i} cannot be made: {type(e).__name__}: {e}'))
        say(dict(start=i))
        outcome, said = judge(data)
        say(dict(end=i, outcome=outcome, said=said))

def _budgets():
    "Smaller budgets of pixels and bytes, so that a file that is within them takes no time."
    import fcn_nb.core, fcn_nb.datasets
    for m in [*sys.modules.values()]:
        if getattr(m, '__name__', '').startswith('fcn_nb') and hasattr(m, 'MAX_PIXELS'): m.MAX_PIXELS = PIXELS
    fcn_nb.datasets._MAT_BYTES = 2**22

def _forked(reader, seed, indices, folder):
    "Lines of a worker in a process of its own; it is killed where it says nothing for 30 seconds."
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        with contextlib.suppress(BaseException):
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)         # libtiff writes there what it thinks of a file
            _worker(reader, seed, indices, folder, lambda d: os.write(write, json.dumps(d).encode()+b'\n'))
        os._exit(0)
    os.close(write)
    left = b''
    with os.fdopen(read, 'rb', 0) as f:
        while True:
            ready, _, _ = select.select([f], [], [], 30)
            block = f.read(2**16) if ready else b''
            if not block: break
            *lines, left = (left+block).split(b'\n')
            for line in lines: yield json.loads(line)
        if not ready: os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    yield dict(dead='hangs' if not ready else f'signal {os.WTERMSIG(status)}' if os.WIFSIGNALED(status) else '')

@lru_cache
def _loaded():
    "What every process of a search would load or make for itself. No onnxruntime: its threads do not outlive a fork."
    import fcn_nb.caffe, fcn_nb.datasets, fcn_nb.download, fcn_nb.large, fcn_nb.resume, h5py, scipy.io, tifffile, torch, torchvision
    from PIL import Image
    torch.set_num_threads(1)
    Image.init()                # else the first file that is no image loads the readers of all formats
    _net()
    for n in (10**6, 10**7, 10**8, 2*10**8, 81*10**6): zeros(n)
    packed_zeros()
    tail()

FINE = 'read', 'refused'

def search(
    reader:str,
    cases:int=200,
    seed:int=0,
    first:int=0,         # of the cases
    say=lambda i: None,  # told the number of each case that is done
):                       # (how many of each outcome, [(reader, seed, index, outcome, what was said)] of the findings)
    "Judge cases in processes of their own; one that dies is a finding, and the search goes on behind it."
    counts, found, at = Counter(), [], first
    READERS[reader].make(0), READERS[reader].make(1)
    _loaded()
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer)/'target'
        folder.mkdir()
        tries = 0
        while at < first+cases:
            last, started = at, None
            for line in _forked(reader, seed, range(at, first+cases), folder):
                if 'broken' in line: raise RuntimeError(f'{reader}: {line["broken"]}')
                if 'start' in line: started = line['start']
                if 'end' in line:
                    counts[line['outcome']] += 1
                    at, started = line['end']+1, None
                    if line['outcome'] not in FINE: found.append((reader, seed, line['end'], line['outcome'], line['said']))
                    beside = [p.name for p in Path(outer).iterdir() if p != folder]
                    if beside: found.append((reader, seed, line['end'], 'does', f'{beside} lies outside'))
                    for name in beside: (Path(outer)/name).unlink()
                    say(line['end'])
                if 'dead' in line and at < first+cases:
                    if started is None:
                        tries += at == last
                        if tries > 2: raise RuntimeError(f'{reader}: its process ends without a word ({line["dead"]})')
                        continue
                    counts['dies'] += 1
                    found.append((reader, seed, started, 'dies', line['dead'] or 'its process ended'))
                    at = started+1
    return counts, found

# ---- trainings that are killed

def _train(folder, resume):
    words = ['fcn_train', 'scenes:24', '--backbone', 'mini', '--weights', 'scenes', '--size', '32x32', '--epochs', '2', '--every', '0',
             '--layout', 'plain', '--device', 'cpu', '--out', str(folder/'a.safetensors')]
    code = 'import sys; from fcn_nb.cli import fcn_train; sys.argv = sys.argv[1:]; fcn_train()'
    return subprocess.Popen([sys.executable, '-c', code, *words, *(['--resume'] if resume else [])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)

def _interrupted(folder, draw, seconds):
    "Start a training and kill it at a random moment, up to three times; then it may end. How often it was killed, and what it said last."
    for times in range(4):
        process, after = _train(folder, times > 0), draw.uniform(.3, 1)*seconds if times < 3 else None
        try: return times, process.communicate(timeout=after)[0].decode()
        except subprocess.TimeoutExpired: process.kill()
        process.communicate()
        if (folder/'a.resume').exists(): _checked(folder/'a.resume')

def _checked(checkpoint):
    "A checkpoint is whole, whenever its training was killed."
    from fcn_nb.resume import read_checkpoint
    read_checkpoint(checkpoint)

def killed(n, seed=0, say=print):
    "Trainings killed at random moments, each gone on with until it ends; how many ended otherwise than one left alone."
    wrong, draw = 0, random.Random(seed)
    with tempfile.TemporaryDirectory() as d:
        folders = [Path(d)/f'{i}' for i in range(n+1)]
        for folder in folders: folder.mkdir()
        start = time.monotonic()
        said = _train(folders[0], False).communicate()[0].decode()
        seconds = time.monotonic()-start
        def ends(folder): return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in ('.safetensors', '.csv', '.json')}
        want = ends(folders[0])
        if len(want) != 3: raise RuntimeError(f'the training that is left alone does not end: {said[-300:]}')
        for i, folder in enumerate(folders[1:], 1):
            try: times, said = _interrupted(folder, draw, seconds)
            except ValueError as e: times, said = '?', str(e)
            same = ends(folder) == want and len([*folder.iterdir()]) == 3
            wrong += not same
            say(f'training {i}: killed {times} times, {"the same bytes" if same else f"NOT THE SAME: {[p.name for p in folder.iterdir()]} {said[-300:]}"}')
    return wrong

# ---- the command

def _done(log):
    "What a log says of earlier starts: {(reader, seed): the next case}, and the counts."
    done, counts = {}, Counter()
    if log and log.exists():
        for line in map(json.loads, log.read_text().splitlines()):
            if 'next' not in line: continue
            done[line['reader'], line['seed']] = line['next']
            counts.update({(line['reader'], k): n for k, n in line['counts'].items()})
    return done, counts

_STEP = 100

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('readers', nargs='*', metavar='READER', help=', '.join(READERS))
    p.add_argument('--cases', type=int, default=200, help='of each reader')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--log', type=Path)
    p.add_argument('--kills', type=int, default=0)
    p.add_argument('--case')
    p.add_argument('--keep', type=Path, help='where the file of --case is written')
    args = p.parse_args()
    unknown = [r for r in args.readers if r not in READERS]
    if unknown: p.error(f'{unknown[0]}: there is {", ".join(READERS)}')
    if args.case: return again(*args.case.split(':'), args.keep)
    from tqdm import tqdm
    tqdm.monitor_interval = 0        # its thread may hold a lock while a process is forked, which then waits for ever
    done, counts = _done(args.log)
    readers, findings = args.readers or [*READERS], 0
    log = open(args.log, 'a') if args.log else None
    def note(**line):
        if log: print(json.dumps(line), file=log, flush=True)
    bar = tqdm(total=len(readers)*args.cases, initial=sum(min(done.get((r, args.seed), 0), args.cases) for r in readers), unit=' cases')
    for at in range(0, args.cases, _STEP):                # every reader in turn: a search that is stopped has seen them all
        for r in readers:
            first = max(at, done.get((r, args.seed), 0))
            n = min(at+_STEP, args.cases)-first
            if n <= 0: continue
            bar.set_description(r)
            got, found = search(r, n, args.seed, first, lambda i: bar.update())
            for reader, seed, i, outcome, said in found:
                findings += 1
                note(finding=f'{reader}:{seed}:{i}', outcome=outcome, said=said)
                bar.write(f'{reader}:{seed}:{i}  {outcome}: {said}')
            note(reader=r, seed=args.seed, next=first+n, counts=got)
            counts.update({(r, k): v for k, v in got.items()})
    bar.close()
    for r in readers: print(f'{r:12}', ', '.join(f'{n:,} {k}' for (name, k), n in sorted(counts.items()) if name == r))
    if args.kills: findings += killed(args.kills, args.seed, lambda text: (print(text, flush=True), note(kill=text)))
    print(f'{findings} findings')
    return 1 if findings else 0

def again(reader, seed, index, keep=None):
    "One case in this process, to look at."
    data = case(reader, int(seed), int(index))
    print(f'{len(data):,} bytes, {data[:60]!r}')
    if keep: keep.write_bytes(data)
    with tempfile.TemporaryDirectory() as d:
        path = Path(d)/f'hostile{READERS[reader].suffix}'
        path.write_bytes(data)
        _budgets()
        print('read:', READERS[reader].read(path))

if __name__ == '__main__':
    os.nice(10)
    sys.exit(main())
