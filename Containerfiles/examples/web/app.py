"""A page that says where it runs and how often it was asked for."""

import itertools
import os
import socket

from flask import Flask, render_template

app = Flask(__name__)
visits = itertools.count(1)


@app.get("/")
def page() -> str:
    return render_template("page.html", host=socket.gethostname(), user=os.geteuid(), visit=next(visits))


@app.get("/healthz")
def healthz() -> str:
    return "ok"


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8000)
