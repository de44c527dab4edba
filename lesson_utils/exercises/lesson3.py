"""The exercises of lesson 3: the context UNet."""

import torch
from torch.nn import functional as F

from .cases import RANDOM, SIZES
from .checks import exercise, prediction


@exercise(
    (torch.randn(3, n, d, generator=RANDOM).double() for n, d in SIZES),
    mistakes={
        "your scores are not divided by √d": lambda q, k, v: (q @ k.T).softmax(1) @ v,
        "your scores are divided by d, not by its square root": lambda q, k, v: (
            (q @ k.T / q.shape[1]).softmax(1) @ v
        ),
        "the weights of one place must add up to 1; yours do over the other axis": (
            lambda q, k, v: (q @ k.T / q.shape[1] ** 0.5).softmax(0) @ v
        ),
        "your scores are divided by √n; d counts a vector's numbers, n the places": (
            lambda q, k, v: (q @ k.T / len(q) ** 0.5).softmax(1) @ v
        ),
        "row i belongs to the query of place i; in yours it belongs to its key": (
            lambda q, k, v: (k @ q.T / q.shape[1] ** 0.5).softmax(1) @ v
        ),
        "the weights are for the values v; yours take the mean of the keys": (
            lambda q, k, v: (q @ k.T / q.shape[1] ** 0.5).softmax(1) @ k
        ),
        "scores compare queries with keys; yours compare queries with the values": (
            lambda q, k, v: (q @ v.T / q.shape[1] ** 0.5).softmax(1) @ k
        ),
        "q, k and v are mixed up: scores need q and k, and the weights are for v": (
            lambda q, k, v: (k @ v.T / q.shape[1] ** 0.5).softmax(1) @ q
        ),
        "the scores are no weights yet: a softmax makes them add up to 1": (
            lambda q, k, v: (q @ k.T / q.shape[1] ** 0.5) @ v
        ),
    },
)
def attention(q, k, v):
    """function(q, k, v), all (n,d), must give softmax(qkᵀ/√d) v (Transformer eq. 1)."""
    return F.scaled_dot_product_attention(q, k, v)


@prediction(
    right="b",
    mistakes={
        "with much noise single pixels say little: then the bottom is missed": "a",
        "it is the other way round: look which cut raises the error at each t": "c",
    },
)
def cut():
    """with little noise the answer lies in single pixels, which only this skip
    connection brings to the way up. With much noise it lies in what many pixels say
    together, and that is computed at the bottom."""


@prediction(
    right="b",
    mistakes={
        "with little noise x_t itself shows what it is: the context adds little": "a",
        "it enters each block at each t, but the network has learned when to use it": (
            "c"
        ),
    },
)
def told():
    """where x_t says little about the image, the context is most of what is known."""
