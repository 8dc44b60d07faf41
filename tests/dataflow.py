"""A Dataflow of this machine: takes jobs as the service's interface does, reads the staged pipeline and really runs it, in one process.

python -m tests.dataflow PORT       STORAGE_EMULATOR_HOST names the bucket's server
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from distill.storage.path import as_path


class Service(ThreadingHTTPServer):
    jobs: dict[str, dict] = {}

    def submit(self, job: dict) -> dict:
        number = f"job-{len(self.jobs) + 1}"
        self.jobs[number] = {**job, "id": number, "currentState": "JOB_STATE_RUNNING"}
        threading.Thread(target=self.execute, args=(number,), daemon=True).start()
        return self.jobs[number]

    def execute(self, number: str) -> None:
        state = "JOB_STATE_DONE"
        try:
            staged = self.jobs[number]["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
            pipeline = beam_runner_api_pb2.Pipeline.FromString(as_path(staged).read_bytes())
            for environment in pipeline.components.environments.values():  # this process stands for the container
                environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
            FnApiRunner().run_via_runner_api(pipeline, PipelineOptions(["--direct_num_workers=2"])).wait_until_finish()
        except Exception as error:  # a job that fails, however it does
            print(repr(error), file=sys.stderr, flush=True)
            state = "JOB_STATE_FAILED"
        self.jobs[number]["currentState"] = state


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(self.server.submit(body))

    def do_GET(self) -> None:
        last = self.path.partition("?")[0].rpartition("/")[2]
        self.answer(self.server.jobs.get(last, {}))

    def answer(self, value: dict) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    Service(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
