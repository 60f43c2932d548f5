// Written by scripts/generate-abi from kernels/abi.h; do not edit.

#pragma once

#include <stddef.h>

static_assert(sizeof(Fault) == 32 && offsetof(Fault, kind) == 0 && offsetof(Fault, unused) == 4 && offsetof(Fault, place) == 8 && offsetof(Fault, value) == 16 && offsetof(Fault, bound) == 24,
    "Fault is laid out otherwise in Rust");
static_assert(sizeof(Unary) == 48 && offsetof(Unary, x) == 0 && offsetof(Unary, y) == 8 && offsetof(Unary, count) == 16 && offsetof(Unary, a) == 24 && offsetof(Unary, b) == 32 && offsetof(Unary, op) == 40 && offsetof(Unary, unused) == 44,
    "Unary is laid out otherwise in Rust");
static_assert(sizeof(UnaryBackward) == 64 && offsetof(UnaryBackward, x) == 0 && offsetof(UnaryBackward, y) == 8 && offsetof(UnaryBackward, dy) == 16 && offsetof(UnaryBackward, dx) == 24 && offsetof(UnaryBackward, count) == 32 && offsetof(UnaryBackward, a) == 40 && offsetof(UnaryBackward, b) == 48 && offsetof(UnaryBackward, op) == 56 && offsetof(UnaryBackward, unused) == 60,
    "UnaryBackward is laid out otherwise in Rust");
static_assert(sizeof(Binary) == 232 && offsetof(Binary, a) == 0 && offsetof(Binary, b) == 8 && offsetof(Binary, y) == 16 && offsetof(Binary, count) == 24 && offsetof(Binary, extent) == 32 && offsetof(Binary, stride_a) == 96 && offsetof(Binary, stride_b) == 160 && offsetof(Binary, rank) == 224 && offsetof(Binary, op) == 228,
    "Binary is laid out otherwise in Rust");
static_assert(sizeof(Axpy) == 32 && offsetof(Axpy, x) == 0 && offsetof(Axpy, y) == 8 && offsetof(Axpy, count) == 16 && offsetof(Axpy, alpha) == 24,
    "Axpy is laid out otherwise in Rust");
static_assert(sizeof(Fill) == 24 && offsetof(Fill, y) == 0 && offsetof(Fill, count) == 8 && offsetof(Fill, value) == 16,
    "Fill is laid out otherwise in Rust");
static_assert(sizeof(Cast) == 32 && offsetof(Cast, x) == 0 && offsetof(Cast, y) == 8 && offsetof(Cast, count) == 16 && offsetof(Cast, to) == 24 && offsetof(Cast, unused) == 28,
    "Cast is laid out otherwise in Rust");
static_assert(sizeof(CopyStrided) == 224 && offsetof(CopyStrided, x) == 0 && offsetof(CopyStrided, y) == 8 && offsetof(CopyStrided, count) == 16 && offsetof(CopyStrided, extent) == 24 && offsetof(CopyStrided, from) == 88 && offsetof(CopyStrided, to) == 152 && offsetof(CopyStrided, rank) == 216 && offsetof(CopyStrided, unused) == 220,
    "CopyStrided is laid out otherwise in Rust");
static_assert(sizeof(Reduce) == 72 && offsetof(Reduce, x) == 0 && offsetof(Reduce, y) == 8 && offsetof(Reduce, outer) == 16 && offsetof(Reduce, n) == 24 && offsetof(Reduce, inner) == 32 && offsetof(Reduce, parts) == 40 && offsetof(Reduce, part) == 48 && offsetof(Reduce, divisor) == 56 && offsetof(Reduce, op) == 64 && offsetof(Reduce, unused) == 68,
    "Reduce is laid out otherwise in Rust");
static_assert(sizeof(ArgMax) == 40 && offsetof(ArgMax, x) == 0 && offsetof(ArgMax, index) == 8 && offsetof(ArgMax, outer) == 16 && offsetof(ArgMax, n) == 24 && offsetof(ArgMax, inner) == 32,
    "ArgMax is laid out otherwise in Rust");
static_assert(sizeof(ScatterAxis) == 48 && offsetof(ScatterAxis, index) == 0 && offsetof(ScatterAxis, dy) == 8 && offsetof(ScatterAxis, dx) == 16 && offsetof(ScatterAxis, outer) == 24 && offsetof(ScatterAxis, n) == 32 && offsetof(ScatterAxis, inner) == 40,
    "ScatterAxis is laid out otherwise in Rust");
static_assert(sizeof(Softmax) == 48 && offsetof(Softmax, x) == 0 && offsetof(Softmax, y) == 8 && offsetof(Softmax, outer) == 16 && offsetof(Softmax, n) == 24 && offsetof(Softmax, inner) == 32 && offsetof(Softmax, log) == 40 && offsetof(Softmax, unused) == 44,
    "Softmax is laid out otherwise in Rust");
static_assert(sizeof(SoftmaxBackward) == 56 && offsetof(SoftmaxBackward, y) == 0 && offsetof(SoftmaxBackward, dy) == 8 && offsetof(SoftmaxBackward, dx) == 16 && offsetof(SoftmaxBackward, outer) == 24 && offsetof(SoftmaxBackward, n) == 32 && offsetof(SoftmaxBackward, inner) == 40 && offsetof(SoftmaxBackward, log) == 48 && offsetof(SoftmaxBackward, unused) == 52,
    "SoftmaxBackward is laid out otherwise in Rust");
static_assert(sizeof(Gather) == 64 && offsetof(Gather, index) == 0 && offsetof(Gather, x) == 8 && offsetof(Gather, y) == 16 && offsetof(Gather, fault) == 24 && offsetof(Gather, outer) == 32 && offsetof(Gather, n) == 40 && offsetof(Gather, inner) == 48 && offsetof(Gather, count) == 56,
    "Gather is laid out otherwise in Rust");
static_assert(sizeof(SortKeys) == 64 && offsetof(SortKeys, index) == 0 && offsetof(SortKeys, key) == 8 && offsetof(SortKeys, order) == 16 && offsetof(SortKeys, fault) == 24 && offsetof(SortKeys, count) == 32 && offsetof(SortKeys, n) == 40 && offsetof(SortKeys, skip) == 48 && offsetof(SortKeys, skips) == 56 && offsetof(SortKeys, unused) == 60,
    "SortKeys is laid out otherwise in Rust");
static_assert(sizeof(SortPass) == 56 && offsetof(SortPass, key) == 0 && offsetof(SortPass, order) == 8 && offsetof(SortPass, counts) == 16 && offsetof(SortPass, to_key) == 24 && offsetof(SortPass, to_order) == 32 && offsetof(SortPass, count) == 40 && offsetof(SortPass, shift) == 48 && offsetof(SortPass, blocks) == 52,
    "SortPass is laid out otherwise in Rust");
static_assert(sizeof(ScatterRows) == 64 && offsetof(ScatterRows, key) == 0 && offsetof(ScatterRows, order) == 8 && offsetof(ScatterRows, dy) == 16 && offsetof(ScatterRows, dx) == 24 && offsetof(ScatterRows, outer) == 32 && offsetof(ScatterRows, n) == 40 && offsetof(ScatterRows, inner) == 48 && offsetof(ScatterRows, count) == 56,
    "ScatterRows is laid out otherwise in Rust");
static_assert(sizeof(Dropout) == 80 && offsetof(Dropout, x) == 0 && offsetof(Dropout, y) == 8 && offsetof(Dropout, first) == 16 && offsetof(Dropout, count) == 24 && offsetof(Dropout, seed) == 32 && offsetof(Dropout, seed_at) == 40 && offsetof(Dropout, stream) == 48 && offsetof(Dropout, stream_at) == 56 && offsetof(Dropout, p) == 64 && offsetof(Dropout, scale) == 72,
    "Dropout is laid out otherwise in Rust");
static_assert(sizeof(DrawMasks) == 24 && offsetof(DrawMasks, draws) == 0 && offsetof(DrawMasks, drawn) == 8 && offsetof(DrawMasks, count) == 16,
    "DrawMasks is laid out otherwise in Rust");
static_assert(sizeof(Uniform) == 56 && offsetof(Uniform, y) == 0 && offsetof(Uniform, count) == 8 && offsetof(Uniform, seed) == 16 && offsetof(Uniform, stream) == 24 && offsetof(Uniform, low) == 32 && offsetof(Uniform, span) == 40 && offsetof(Uniform, last) == 48,
    "Uniform is laid out otherwise in Rust");
static_assert(sizeof(PointwiseLoss) == 80 && offsetof(PointwiseLoss, x) == 0 && offsetof(PointwiseLoss, target) == 8 && offsetof(PointwiseLoss, weight) == 16 && offsetof(PointwiseLoss, pos_weight) == 24 && offsetof(PointwiseLoss, y) == 32 && offsetof(PointwiseLoss, fault) == 40 && offsetof(PointwiseLoss, count) == 48 && offsetof(PointwiseLoss, trailing) == 56 && offsetof(PointwiseLoss, bound) == 64 && offsetof(PointwiseLoss, loss) == 72 && offsetof(PointwiseLoss, unused) == 76,
    "PointwiseLoss is laid out otherwise in Rust");
static_assert(sizeof(PointwiseLossBackward) == 80 && offsetof(PointwiseLossBackward, x) == 0 && offsetof(PointwiseLossBackward, target) == 8 && offsetof(PointwiseLossBackward, weight) == 16 && offsetof(PointwiseLossBackward, pos_weight) == 24 && offsetof(PointwiseLossBackward, dy) == 32 && offsetof(PointwiseLossBackward, dx) == 40 && offsetof(PointwiseLossBackward, count) == 48 && offsetof(PointwiseLossBackward, trailing) == 56 && offsetof(PointwiseLossBackward, bound) == 64 && offsetof(PointwiseLossBackward, loss) == 72 && offsetof(PointwiseLossBackward, to_target) == 76,
    "PointwiseLossBackward is laid out otherwise in Rust");
static_assert(sizeof(ClassLoss) == 88 && offsetof(ClassLoss, x) == 0 && offsetof(ClassLoss, target) == 8 && offsetof(ClassLoss, weight) == 16 && offsetof(ClassLoss, y) == 24 && offsetof(ClassLoss, sample_weight) == 32 && offsetof(ClassLoss, fault) == 40 && offsetof(ClassLoss, outer) == 48 && offsetof(ClassLoss, classes) == 56 && offsetof(ClassLoss, inner) == 64 && offsetof(ClassLoss, ignore_index) == 72 && offsetof(ClassLoss, smoothing) == 80,
    "ClassLoss is laid out otherwise in Rust");
static_assert(sizeof(ClassLossBackward) == 72 && offsetof(ClassLossBackward, target) == 0 && offsetof(ClassLossBackward, weight) == 8 && offsetof(ClassLossBackward, dy) == 16 && offsetof(ClassLossBackward, dx) == 24 && offsetof(ClassLossBackward, outer) == 32 && offsetof(ClassLossBackward, classes) == 40 && offsetof(ClassLossBackward, inner) == 48 && offsetof(ClassLossBackward, ignore_index) == 56 && offsetof(ClassLossBackward, smoothing) == 64,
    "ClassLossBackward is laid out otherwise in Rust");
static_assert(sizeof(Sgd) == 2912 && offsetof(Sgd, p) == 0 && offsetof(Sgd, g) == 512 && offsetof(Sgd, buffer) == 1024 && offsetof(Sgd, master) == 1536 && offsetof(Sgd, count) == 2048 && offsetof(Sgd, first) == 2560 && offsetof(Sgd, numbers) == 2816 && offsetof(Sgd, live) == 2880 && offsetof(Sgd, skip) == 2888 && offsetof(Sgd, scale) == 2896 && offsetof(Sgd, tensors) == 2904 && offsetof(Sgd, nesterov) == 2908,
    "Sgd is laid out otherwise in Rust");
static_assert(sizeof(Adam) == 3936 && offsetof(Adam, p) == 0 && offsetof(Adam, g) == 512 && offsetof(Adam, m) == 1024 && offsetof(Adam, v) == 1536 && offsetof(Adam, top) == 2048 && offsetof(Adam, master) == 2560 && offsetof(Adam, count) == 3072 && offsetof(Adam, first) == 3584 && offsetof(Adam, numbers) == 3840 && offsetof(Adam, live) == 3904 && offsetof(Adam, skip) == 3912 && offsetof(Adam, scale) == 3920 && offsetof(Adam, tensors) == 3928 && offsetof(Adam, unused) == 3932,
    "Adam is laid out otherwise in Rust");
static_assert(sizeof(RmsProp) == 3936 && offsetof(RmsProp, p) == 0 && offsetof(RmsProp, g) == 512 && offsetof(RmsProp, v) == 1024 && offsetof(RmsProp, mean) == 1536 && offsetof(RmsProp, buffer) == 2048 && offsetof(RmsProp, master) == 2560 && offsetof(RmsProp, count) == 3072 && offsetof(RmsProp, first) == 3584 && offsetof(RmsProp, numbers) == 3840 && offsetof(RmsProp, live) == 3904 && offsetof(RmsProp, skip) == 3912 && offsetof(RmsProp, scale) == 3920 && offsetof(RmsProp, tensors) == 3928 && offsetof(RmsProp, unused) == 3932,
    "RmsProp is laid out otherwise in Rust");
static_assert(sizeof(Adagrad) == 2912 && offsetof(Adagrad, p) == 0 && offsetof(Adagrad, g) == 512 && offsetof(Adagrad, sum) == 1024 && offsetof(Adagrad, master) == 1536 && offsetof(Adagrad, count) == 2048 && offsetof(Adagrad, first) == 2560 && offsetof(Adagrad, numbers) == 2816 && offsetof(Adagrad, live) == 2880 && offsetof(Adagrad, skip) == 2888 && offsetof(Adagrad, scale) == 2896 && offsetof(Adagrad, tensors) == 2904 && offsetof(Adagrad, unused) == 2908,
    "Adagrad is laid out otherwise in Rust");
static_assert(sizeof(Advance) == 32 && offsetof(Advance, settings) == 0 && offsetof(Advance, clocks) == 8 && offsetof(Advance, skip) == 16 && offsetof(Advance, count) == 24,
    "Advance is laid out otherwise in Rust");
static_assert(sizeof(Unscale) == 1304 && offsetof(Unscale, x) == 0 && offsetof(Unscale, count) == 512 && offsetof(Unscale, first) == 1024 && offsetof(Unscale, scale) == 1280 && offsetof(Unscale, found) == 1288 && offsetof(Unscale, tensors) == 1296 && offsetof(Unscale, unused) == 1300,
    "Unscale is laid out otherwise in Rust");
static_assert(sizeof(UpdateScale) == 40 && offsetof(UpdateScale, scale) == 0 && offsetof(UpdateScale, steady) == 8 && offsetof(UpdateScale, found) == 16 && offsetof(UpdateScale, growth) == 24 && offsetof(UpdateScale, backoff) == 28 && offsetof(UpdateScale, interval) == 32 && offsetof(UpdateScale, unused) == 36,
    "UpdateScale is laid out otherwise in Rust");
static_assert(sizeof(NormParts) == 1304 && offsetof(NormParts, x) == 0 && offsetof(NormParts, count) == 512 && offsetof(NormParts, first) == 1024 && offsetof(NormParts, parts) == 1280 && offsetof(NormParts, p) == 1288 && offsetof(NormParts, tensors) == 1296 && offsetof(NormParts, op) == 1300,
    "NormParts is laid out otherwise in Rust");
static_assert(sizeof(NormJoin) == 56 && offsetof(NormJoin, parts) == 0 && offsetof(NormJoin, norm) == 8 && offsetof(NormJoin, factor) == 16 && offsetof(NormJoin, count) == 24 && offsetof(NormJoin, p) == 32 && offsetof(NormJoin, max_norm) == 40 && offsetof(NormJoin, op) == 48 && offsetof(NormJoin, unused) == 52,
    "NormJoin is laid out otherwise in Rust");
static_assert(sizeof(Scale) == 1296 && offsetof(Scale, x) == 0 && offsetof(Scale, count) == 512 && offsetof(Scale, first) == 1024 && offsetof(Scale, factor) == 1280 && offsetof(Scale, tensors) == 1288 && offsetof(Scale, unused) == 1292,
    "Scale is laid out otherwise in Rust");
static_assert(sizeof(Clamp) == 1304 && offsetof(Clamp, x) == 0 && offsetof(Clamp, count) == 512 && offsetof(Clamp, first) == 1024 && offsetof(Clamp, low) == 1280 && offsetof(Clamp, high) == 1288 && offsetof(Clamp, tensors) == 1296 && offsetof(Clamp, unused) == 1300,
    "Clamp is laid out otherwise in Rust");
static_assert(sizeof(RecurrentRows) == 88 && offsetof(RecurrentRows, from) == 0 && offsetof(RecurrentRows, to) == 8 && offsetof(RecurrentRows, offsets) == 16 && offsetof(RecurrentRows, sequences) == 24 && offsetof(RecurrentRows, steps) == 32 && offsetof(RecurrentRows, batch) == 40 && offsetof(RecurrentRows, rows) == 48 && offsetof(RecurrentRows, width) == 56 && offsetof(RecurrentRows, step_stride) == 64 && offsetof(RecurrentRows, sequence_stride) == 72 && offsetof(RecurrentRows, vector) == 80,
    "RecurrentRows is laid out otherwise in Rust");
static_assert(sizeof(RecurrentStates) == 80 && offsetof(RecurrentStates, from) == 0 && offsetof(RecurrentStates, to) == 8 && offsetof(RecurrentStates, offsets) == 16 && offsetof(RecurrentStates, sequences) == 24 && offsetof(RecurrentStates, steps) == 32 && offsetof(RecurrentStates, count) == 40 && offsetof(RecurrentStates, batch) == 48 && offsetof(RecurrentStates, width) == 56 && offsetof(RecurrentStates, stride) == 64 && offsetof(RecurrentStates, last) == 72,
    "RecurrentStates is laid out otherwise in Rust");
static_assert(sizeof(RecurrentBias) == 48 && offsetof(RecurrentBias, ih) == 0 && offsetof(RecurrentBias, hh) == 8 && offsetof(RecurrentBias, to) == 16 && offsetof(RecurrentBias, gates) == 24 && offsetof(RecurrentBias, hidden) == 32 && offsetof(RecurrentBias, split) == 40,
    "RecurrentBias is laid out otherwise in Rust");
static_assert(sizeof(RecurrentPrevious) == 80 && offsetof(RecurrentPrevious, y) == 0 && offsetof(RecurrentPrevious, first) == 8 && offsetof(RecurrentPrevious, to) == 16 && offsetof(RecurrentPrevious, offsets) == 24 && offsetof(RecurrentPrevious, steps) == 32 && offsetof(RecurrentPrevious, batch) == 40 && offsetof(RecurrentPrevious, rows) == 48 && offsetof(RecurrentPrevious, width) == 56 && offsetof(RecurrentPrevious, stride) == 64 && offsetof(RecurrentPrevious, reverse) == 72,
    "RecurrentPrevious is laid out otherwise in Rust");
static_assert(sizeof(RecurrentSums) == 40 && offsetof(RecurrentSums, from) == 0 && offsetof(RecurrentSums, to) == 8 && offsetof(RecurrentSums, rows) == 16 && offsetof(RecurrentSums, width) == 24 && offsetof(RecurrentSums, part) == 32,
    "RecurrentSums is laid out otherwise in Rust");
static_assert(sizeof(RecurrentPeephole) == 88 && offsetof(RecurrentPeephole, gates) == 0 && offsetof(RecurrentPeephole, cells) == 8 && offsetof(RecurrentPeephole, first) == 16 && offsetof(RecurrentPeephole, to) == 24 && offsetof(RecurrentPeephole, offsets) == 32 && offsetof(RecurrentPeephole, steps) == 40 && offsetof(RecurrentPeephole, batch) == 48 && offsetof(RecurrentPeephole, rows) == 56 && offsetof(RecurrentPeephole, hidden) == 64 && offsetof(RecurrentPeephole, part) == 72 && offsetof(RecurrentPeephole, reverse) == 80,
    "RecurrentPeephole is laid out otherwise in Rust");
static_assert(sizeof(RecurrentTotals) == 48 && offsetof(RecurrentTotals, from) == 0 && offsetof(RecurrentTotals, to) == 8 && offsetof(RecurrentTotals, parts) == 16 && offsetof(RecurrentTotals, stride) == 24 && offsetof(RecurrentTotals, count) == 32 && offsetof(RecurrentTotals, add) == 40,
    "RecurrentTotals is laid out otherwise in Rust");
static_assert(sizeof(RecurrentProjected) == 48 && offsetof(RecurrentProjected, dh) == 0 && offsetof(RecurrentProjected, dy) == 8 && offsetof(RecurrentProjected, to) == 16 && offsetof(RecurrentProjected, count) == 24 && offsetof(RecurrentProjected, width) == 32 && offsetof(RecurrentProjected, stride) == 40,
    "RecurrentProjected is laid out otherwise in Rust");
static_assert(sizeof(RecurrentStep) == 136 && offsetof(RecurrentStep, pre) == 0 && offsetof(RecurrentStep, gates) == 8 && offsetof(RecurrentStep, q) == 16 && offsetof(RecurrentStep, kept) == 24 && offsetof(RecurrentStep, bias) == 32 && offsetof(RecurrentStep, c_before) == 40 && offsetof(RecurrentStep, c_first) == 48 && offsetof(RecurrentStep, c) == 56 && offsetof(RecurrentStep, h_before) == 64 && offsetof(RecurrentStep, h_first) == 72 && offsetof(RecurrentStep, y) == 80 && offsetof(RecurrentStep, peephole) == 88 && offsetof(RecurrentStep, count) == 96 && offsetof(RecurrentStep, before) == 104 && offsetof(RecurrentStep, hidden) == 112 && offsetof(RecurrentStep, stride) == 120 && offsetof(RecurrentStep, vector) == 128,
    "RecurrentStep is laid out otherwise in Rust");
static_assert(sizeof(RecurrentStepBackward) == 128 && offsetof(RecurrentStepBackward, gates) == 0 && offsetof(RecurrentStepBackward, q) == 8 && offsetof(RecurrentStepBackward, c) == 16 && offsetof(RecurrentStepBackward, c_before) == 24 && offsetof(RecurrentStepBackward, c_first) == 32 && offsetof(RecurrentStepBackward, h_before) == 40 && offsetof(RecurrentStepBackward, h_first) == 48 && offsetof(RecurrentStepBackward, dy) == 56 && offsetof(RecurrentStepBackward, dh) == 64 && offsetof(RecurrentStepBackward, dc) == 72 && offsetof(RecurrentStepBackward, peephole) == 80 && offsetof(RecurrentStepBackward, count) == 88 && offsetof(RecurrentStepBackward, before) == 96 && offsetof(RecurrentStepBackward, hidden) == 104 && offsetof(RecurrentStepBackward, stride) == 112 && offsetof(RecurrentStepBackward, vector) == 120,
    "RecurrentStepBackward is laid out otherwise in Rust");
