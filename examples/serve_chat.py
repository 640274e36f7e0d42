"""A chat with a language model behind the API of OpenAI, on the toy model, which needs no weights.

    python examples/serve_chat.py                   # asks once, and prints the answer as it comes
    python examples/serve_chat.py --model /path/to/weights        # a real one, by transformers

Another program asks by the openai client: `OpenAI(base_url="http://localhost:8000/v1", api_key="any")`, once the
line of `hpc serve tunnel` leads to the socket.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket

import hpc
from hpc import serve
from hpc.serve.http import door
from hpc.serve.llm import LLMConfig, LLMServingArgs, build_openai_app


class Door(http.client.HTTPConnection):
    """The service's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(next(one for doors in door.told().values() for one in doors)[len("unix:") :])


def chat(text: str, most: int) -> None:
    """Print the answer token by token."""
    asked = {
        "model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": most, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    connection = Door("localhost")
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"content-type": "application/json"})
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            event = json.loads(line[len(b"data: ") :])
            for choice in event["choices"]:
                print(choice["delta"].get("content") or "", end="", flush=True)
            if event.get("usage"):
                print(f"\n{event['usage']['completion_tokens']} tokens")
    connection.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--model", default="", help="a folder of weights; else the toy model")
    options.add_argument("--text", default="What is a batch machine?")
    options.add_argument("--tokens", type=int, default=40)
    options.add_argument("--serve", action="store_true", help="serve until Ctrl-C")
    given = options.parse_args()
    hpc.init()
    source = {"model_source": given.model} if given.model else {}
    config = LLMConfig(model_loading_config={"model_id": "chat", **source}, llm_engine="hf" if given.model else "toy")
    serve.run(build_openai_app(LLMServingArgs(llm_configs=[config])), blocking=given.serve)
    chat(given.text, given.tokens)
    serve.shutdown()
