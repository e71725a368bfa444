"""A web server on this machine that serves files whole, cut off, or something else in their place."""

import bz2
import contextlib
import http.server
import io
import tarfile
import threading
import zipfile

import numpy as np

KINDS = ('a.bz2', 'a.mat', 'a.zip', 'a.tar.gz', 'a.tgz')  # names of published files
PAGE = b'<!DOCTYPE html><title>Please log in</title>'


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.files, {name: (what it says its length is, or None, or 'chunks' or 'waits'; what it sends)}."""

    def do_GET(self):
        length, content = self.server.files.get(self.path.strip('/'), (0, b''))
        if not content:
            self.send_error(404)
            return
        self.send_response(200)
        if length == 'chunks':
            self.send_header('Transfer-Encoding', 'chunked')
            content = b'%x\r\n%s\r\n' % (len(content) + 9, content)  # the chunk ends too soon, the last never comes
        elif isinstance(length, int):
            self.send_header('Content-Length', str(length))
        self.end_headers()
        self.wfile.write(content)
        if length == 'waits':  # until the client has gone
            self.wfile.flush()
            self.rfile.read(1)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving():
    """A context that gives a server, whose `files` and `url` are all that it has to know."""
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler) as server:
        server.files, server.url = {}, f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def whole_file(name: str) -> bytes:
    """The content of a whole file of the kind that its name, one of KINDS, says."""
    from scipy.io import savemat

    stream, rng = io.BytesIO(), np.random.default_rng(0)
    if name.endswith('.bz2'):
        return bz2.compress(rng.bytes(5000))
    if name.endswith('.mat'):
        savemat(stream, {'X': rng.integers(0, 9, (3, 4))}, do_compression=True)
    elif name.endswith('.zip'):
        with zipfile.ZipFile(stream, 'w') as archive:
            archive.writestr('a', rng.bytes(5000))
    else:
        with tarfile.open(fileobj=stream, mode='w:gz') as archive:
            member = tarfile.TarInfo('a')
            member.size = 5000
            archive.addfile(member, io.BytesIO(rng.bytes(5000)))
    return stream.getvalue()
