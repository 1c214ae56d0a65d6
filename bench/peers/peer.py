"""What every peer of `ssm bench --peers` shares: a conversation in JSON lines.

A peer is a script of its own that answers on its standard output, a line for each line it is sent:

    (at the start)                    {"peer": "numpy", "version": "1.24.2", "threads": 1}  or  {"peer": "numpy", "missing": "why"}
    {"command": "prepare", ...task}   {"candidates": ["cumsum"]}, the ways it can do that task; none is an empty list
    {"command": "run", "name": ...}   {"seconds": 0.0123}, the time of one call on data that is in place

A task names operation, dtype, batch, channels (of a head), length, heads, states, width, combine and threads. Nothing else is printed there, and the end
of the input ends the script.
"""
import json
import os
import sys
import time


def serve(peer, load):
    """load(threads) imports the library and answers (version, threads it uses, candidates).

    candidates(task) maps the names of the ways it can do a task to functions without arguments.
    """
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints must not disturb the conversation

    def answer(message):
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    threads = int(os.environ.get("SSM_PEER_THREADS", "1"))
    try:
        version, threads, candidates = load(threads)
    except Exception as missing:  # an absent or broken library is an answer, not a failure
        answer({"peer": peer, "missing": f"{type(missing).__name__}: {missing}"})
        return
    answer({"peer": peer, "version": version, "threads": threads})
    calls = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["command"] == "prepare":
                calls.clear()
                calls.update(candidates(request))
                answer({"candidates": list(calls)})
            else:
                call = calls[request["name"]]
                begin = time.perf_counter()
                call()
                answer({"seconds": time.perf_counter() - begin})
        except Exception as error:
            calls.clear()
            answer({"error": f"{type(error).__name__}: {error}", "candidates": []})
