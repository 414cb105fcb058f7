"""What bench/bomb, bench/long and bench/queries share: the peers' harness, found and loaded, and whether a peer's old series have holes.

The harness (exporter fleet, peers, /proc) is no part of this repository. HOLDFAST_HARNESS names its folder; by default
../shared/bench beside the repository. What it needs (HB_BIN: the peers' programs, Python packages) stands in its README.
"""
import http.client, json, os, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.environ.get('HOLDFAST_HARNESS', os.path.join(ROOT, '..', 'shared', 'bench'))


def load():
    """The harness' library. Ends the program in words where the harness or a binary is missing."""
    if not os.path.exists(os.path.join(FOLDER, 'benchlib.py')):
        sys.exit('the harness is not at %s; HOLDFAST_HARNESS names the folder that has its benchlib.py' % FOLDER)
    if 'HOLDFAST_BIN' not in os.environ:
        os.environ['HOLDFAST_BIN'] = os.path.join(ROOT, 'target', 'release', 'holdfast')
        subprocess.run(['cargo', 'build', '--release', '--locked'], cwd=ROOT, check=True)
    if 'HB_WORK' not in os.environ:
        os.environ['HB_WORK'] = tempfile.mkdtemp(prefix='holdfast-bench-')
    os.makedirs(os.environ['HB_WORK'], exist_ok=True)
    sys.path.insert(0, FOLDER)
    import benchlib
    return benchlib


def ask(lib, peer, query, at):
    """Result of an instant query."""
    connection = http.client.HTTPConnection('127.0.0.1', peer.port, timeout=120)
    try:
        status, body = lib.run_query(connection, peer, 'instant', query, 0, at)[1:]
    finally:
        connection.close()
    answer = json.loads(body)
    if status != 200 or answer.get('status') != 'success':
        raise RuntimeError('%s: %s: %s %s' % (peer.name, query, status, body[:300]))
    return answer['data']['result']


def by_instance(result):
    return {row['metric']['instance']: int(float(row['value'][1])) for row in result}


def names(lib, peer, at):
    connection = http.client.HTTPConnection('127.0.0.1', peer.port, timeout=120)
    try:
        body = lib.run_query(connection, peer, 'path', '/api/v1/label/__name__/values', 0, at)[2]
    finally:
        connection.close()
    own = ('up', 'scrape_', 'bomb_')
    return [name for name in json.loads(body)['data'] if not name.startswith(own)]


def holes(lib, peer, seconds, interval, at):
    """Of the series that the fleet serves without a bomb, over the seconds before `at`: per target, how many there are,
    and of how many samples they lack some: of scrapes that failed, that were skipped, and of single series."""
    only = '{instance=~"127.+",job="fleet"}[%ds]' % seconds
    scrapes = by_instance(ask(lib, peer, 'count_over_time(up%s)' % only, at))
    good = by_instance(ask(lib, peer, 'sum_over_time(up%s)' % only, at))
    series, stored = {}, {}
    for name in names(lib, peer, at):
        for found, query in ((series, 'count by (instance)(count_over_time(%s%s))'),
                             (stored, 'sum by (instance)(count_over_time(%s%s))')):
            for instance, value in by_instance(ask(lib, peer, query % (name, only), at)).items():
                found[instance] = found.get(instance, 0) + value
    rows = {}
    for instance in peer.fleet.target_list():
        # A window holds one scrape more or fewer than its length says, by where it begins.
        due = int(seconds / interval) - 1
        rows[instance] = {'series': series.get(instance, 0), 'scrapes': scrapes.get(instance, 0),
                          'failed': scrapes.get(instance, 0) - good.get(instance, 0),
                          'skipped': max(0, due - scrapes.get(instance, 0)),
                          'stored': stored.get(instance, 0),
                          'lacking': good.get(instance, 0) * peer.fleet.series - stored.get(instance, 0)}
    return rows
