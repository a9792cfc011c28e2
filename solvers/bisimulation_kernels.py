r"""Numba kernels of partition refinement with two coupled partitions, of states and of state-action pairs.

A partition is an array of elements in which every block is a contiguous piece, and every *superblock* a contiguous run of
blocks. Invariant: all pairs of a block give the same mass to every superblock of states; all states of a block offer pairs in
the same superblocks of pairs. While some superblock holds several blocks, the smaller of its first and last block is cut out
and the other partition is split by it: the rest of the superblock then needs no look, since what it gets is what the whole got
less what the piece got. So an element is looked at once in a piece of half its superblock or less, log2 n times at most.

Pairs are split by their mass into the piece, a state by whether it offers pairs in the piece only, in the rest only or in both,
for which each pair points at a counter of its state's pairs in its superblock (Paige and Tarjan 1987). Of the masses, the
possible majority is set aside before the others are sorted (Boyer and Moore 1991; Valmari and Franceschinis 2010), which makes
sorting cost no more than looking.

    shape   arrays of a partition: elements (k,), place (k,) of each element in them, block (k,) of each element;
            first, last (blocks,) ends of each block; owner (blocks,) its superblock; begin, end (superblocks,) its ends;
            marked (blocks,) elements moved to the block's front; work, a stack of superblocks with several blocks;
            sizes = [blocks, superblocks, length of the stack].
"""

from __future__ import annotations

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def transposed(n_states, row_ptr, successor, units):
    """Incoming transitions of positive mass: (pointers (n_states + 1,), pair of each, mass of each)."""
    ptr = np.zeros(n_states + 1, dtype=np.int64)
    for entry in range(len(successor)):
        if units[entry] > 0:
            ptr[successor[entry] + 1] += 1
    for state in range(n_states):
        ptr[state + 1] += ptr[state]
    pairs, mass, at = np.empty(ptr[n_states], dtype=np.int32), np.empty(ptr[n_states], dtype=np.int64), ptr[:-1].copy()
    for pair in range(len(row_ptr) - 1):
        for entry in range(row_ptr[pair], row_ptr[pair + 1]):
            if units[entry] > 0:
                i = at[successor[entry]]
                pairs[i], mass[i] = pair, units[entry]
                at[successor[entry]] = i + 1
    return ptr, pairs, mass


@_jit
def row_units(row_ptr, units):
    """Mass of each row, int64 (n_pairs,)."""
    out = np.zeros(len(row_ptr) - 1, dtype=np.int64)
    for pair in range(len(out)):
        for entry in range(row_ptr[pair], row_ptr[pair + 1]):
            out[pair] += units[entry]
    return out


@_jit
def partition_of(classes):
    """The arrays of a partition with one superblock, from classes 0, 1, ... of the elements, int32 (k,)."""
    size = len(classes)
    n_blocks = 0
    for c in classes:
        n_blocks = max(n_blocks, c + 1)
    elements, place, block = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int32), classes.astype(np.int32)
    first, last = np.zeros(size + 1, dtype=np.int32), np.zeros(size + 1, dtype=np.int32)
    for c in classes:
        last[c] += 1
    for b in range(1, n_blocks):
        last[b] += last[b - 1]
        first[b] = last[b - 1]
    at = first[:n_blocks].copy()
    for element in range(size):
        i = at[block[element]]
        elements[i], place[element] = element, i
        at[block[element]] = i + 1
    owner, begin, end = np.zeros(size + 1, np.int32), np.zeros(size + 1, np.int32), np.zeros(size + 1, np.int32)
    end[0] = size
    work, sizes = np.zeros(size + 1, dtype=np.int32), np.array([n_blocks, 1, 0], dtype=np.int64)
    if n_blocks > 1:
        sizes[2] = 1
    marked = np.zeros(size + 1, dtype=np.int32)
    return elements, place, block, first, last, owner, begin, end, marked, work, sizes


@_jit
def _move(part, element, to):
    """Swap an element with the one at place `to`."""
    elements, place = part[0], part[1]
    here, other = place[element], elements[to]
    elements[here], elements[to] = other, element
    place[other], place[element] = here, to


@_jit
def _mark(part, element):
    """Move an element to the front of its block; whether it is the block's first one there."""
    block, first, marked = part[2], part[3], part[8]
    b = block[element]
    _move(part, element, first[b] + marked[b])
    marked[b] += 1
    return marked[b] == 1


@_jit
def _detach(part, b, stop):
    """Make a new block of the elements before place `stop` of block b, which must leave some, and note its superblock."""
    elements, block, first, last, owner, begin, end, work, sizes = (
        part[0], part[2], part[3], part[4], part[5], part[6], part[7], part[9], part[10]
    )  # fmt: skip
    y = owner[b]
    if first[b] == begin[y] and last[b] == end[y]:
        work[sizes[2]] = y
        sizes[2] += 1
    new = sizes[0]
    sizes[0] = new + 1
    first[new], last[new], owner[new] = first[b], stop, y
    first[b] = stop
    for i in range(first[new], stop):
        block[elements[i]] = new


@_jit
def _piece(part):
    """Cut the smaller end block out of the superblock on top of the stack: (it, the block that is left, -1 for several)."""
    elements, block, first, last, owner, begin, end, work, sizes = (
        part[0], part[2], part[3], part[4], part[5], part[6], part[7], part[9], part[10]
    )  # fmt: skip
    y = work[sizes[2] - 1]
    head, tail = block[elements[begin[y]]], block[elements[end[y] - 1]]
    if last[head] - first[head] <= last[tail] - first[tail]:
        piece, begin[y] = head, last[head]
    else:
        piece, end[y] = tail, first[tail]
    new = sizes[1]
    sizes[1] = new + 1
    owner[piece], begin[new], end[new] = new, first[piece], last[piece]
    rest = block[elements[begin[y]]]
    if first[rest] == begin[y] and last[rest] == end[y]:
        sizes[2] -= 1
        return piece, rest
    return piece, -1


@_jit
def _split_by_mass(pairs, piece, states, ptr, incoming, mass, weight, touched, blocks, seen, least, most, window):
    """Split blocks of pairs by their mass into a block of states: equal masses, or masses within a window, stay together.

    A block whose masses all agree, which late in the refinement is nearly every one, is only read.
    """
    count = n_blocks = looks = n_torn = 0
    elements, first, last, block = states[0], states[3], states[4], pairs[2]
    for i in range(first[piece], last[piece]):
        state = elements[i]
        looks += ptr[state + 1] - ptr[state]
        for entry in range(ptr[state], ptr[state + 1]):
            pair = incoming[entry]
            if weight[pair] == 0:
                touched[count] = pair
                count += 1
            weight[pair] += mass[entry]
    for i in range(count):
        b, here = block[touched[i]], weight[touched[i]]
        if seen[b] == 0:
            blocks[n_blocks], least[b], most[b] = b, here, here
            n_blocks += 1
        least[b], most[b] = min(least[b], here), max(most[b], here)
        seen[b] += 1
    for i in range(n_blocks):
        b = blocks[i]
        floor = least[b] if seen[b] == pairs[4][b] - pairs[3][b] else 0
        seen[b] = 0
        if most[b] - floor > window:
            seen[b] = -1
            blocks[n_torn] = b
            n_torn += 1
    for i in range(count if n_torn else 0):
        if seen[block[touched[i]]] < 0:
            _mark(pairs, touched[i])
    for i in range(n_torn):
        seen[blocks[i]] = 0
        _split_block(pairs, blocks[i], weight, window)
    for i in range(count):
        weight[touched[i]] = 0
    return looks


@_jit
def _split_block(pairs, b, weight, window):
    """Split block b of pairs, the marked of which have a positive weight, and not all weights agree."""
    elements, first, last, marked = pairs[0], pairs[3], pairs[4], pairs[8]
    begin, stop, end = first[b], first[b] + marked[b], last[b]
    marked[b] = 0
    least = most = weight[elements[begin]]
    for i in range(begin + 1, stop):
        least, most = min(least, weight[elements[i]]), max(most, weight[elements[i]])
    if window == 0 and least == most:
        _detach(pairs, b, stop)
        return
    low = _arranged(pairs, begin, stop, weight, window)
    base = weight[elements[begin]]
    for i in range(begin + 1, low):
        here = weight[elements[i]]
        if here - base > window:
            _detach(pairs, b, i)
            base = here
    if low < end and low > begin:
        _detach(pairs, b, low)
    if window == 0 and low < stop < end:
        _detach(pairs, b, stop)


@_jit
def _arranged(pairs, begin, stop, weight, window):
    """Sort the marked pairs by weight as far as needed; the place before which they are sorted.

    Exact: the possible majority comes last, unsorted. With a window: those that the window joins to weight zero, or to the
    least weight, come last.
    """
    elements, place = pairs[0], pairs[1]
    base, lead = weight[elements[begin]], 0
    if window == 0:
        for i in range(begin, stop):
            here = weight[elements[i]]
            if lead == 0:
                base = here
            lead += 1 if here == base else -1
        reach = base
    else:
        base = 0
        if stop == pairs[4][pairs[2][elements[begin]]]:
            base = weight[elements[begin]]
            for i in range(begin, stop):
                base = min(base, weight[elements[i]])
        reach = base + window
    low = begin
    for i in range(begin, stop):
        pair = elements[i]
        if not base <= weight[pair] <= reach:
            _move(pairs, pair, low)
            low += 1
    chosen = elements[begin:low].copy()
    keys = np.empty(low - begin, dtype=np.int64)
    for i in range(low - begin):
        keys[i] = weight[chosen[i]]
    order = np.argsort(keys)
    for i in range(low - begin):
        elements[begin + i] = chosen[order[i]]
        place[chosen[order[i]]] = begin + i
    return low


@_jit
def _split_by_offer(states, piece, pairs, pair_state, counter, count, n_counters, own, sample, touched, blocks):
    """Split blocks of states by whether they offer pairs in the piece only, in the rest of its superblock only, or in both."""
    elements, first, last = pairs[0], pairs[3], pairs[4]
    n_touched, n_before = 0, n_counters
    for i in range(first[piece], last[piece]):
        pair = elements[i]
        state = pair_state[pair]
        if own[state] == 0:
            touched[n_touched] = state
            sample[state] = pair
            n_touched += 1
        own[state] += 1
    n_blocks = 0
    for i in range(n_touched):
        state = touched[i]
        old = counter[sample[state]]
        rest = count[old] - own[state]
        sample[state] = old
        if rest > 0:
            count[old], count[n_counters], sample[state] = rest, own[state], n_counters
            n_counters += 1
            if _mark(states, state):
                blocks[n_blocks] = states[2][state]
                n_blocks += 1
    for i in range(first[piece], last[piece]):
        counter[elements[i]] = sample[pair_state[elements[i]]]
    _detach_marked(states, blocks, n_blocks)
    n_blocks = 0
    for i in range(n_touched):
        state = touched[i]
        own[state] = 0
        if sample[state] < n_before and _mark(states, state):
            blocks[n_blocks] = states[2][state]
            n_blocks += 1
    _detach_marked(states, blocks, n_blocks)
    return n_counters


@_jit
def _detach_marked(part, blocks, n_blocks):
    first, last, marked = part[3], part[4], part[8]
    for i in range(n_blocks):
        b = blocks[i]
        stop = first[b] + marked[b]
        marked[b] = 0
        if stop < last[b]:
            _detach(part, b, stop)


@_jit
def refine(states, pairs, pair_state, ptr, incoming, mass, window):
    """Refine both partitions until they are stable. Returns the transitions looked at.

    pair_state: state of each pair, int32 (n_pairs,). ptr, incoming, mass: incoming transitions. window: 0 for equal masses.
    """
    n_states, n_pairs = len(states[0]), len(pairs[0])
    weight, pair_list, block_list = np.zeros(n_pairs, np.int64), np.empty(n_pairs, np.int32), np.empty(n_pairs, np.int32)
    seen, least, most = np.zeros(n_pairs, np.int32), np.empty(n_pairs, np.int64), np.empty(n_pairs, np.int64)
    own, sample, state_list = np.zeros(n_states, np.int32), np.empty(n_states, np.int32), np.empty(n_states, np.int32)
    state_blocks = np.empty(n_states, dtype=np.int32)
    count = np.zeros(n_states + n_pairs, dtype=np.int32)
    for state in pair_state:
        count[state] += 1
    counter, n_counters, looks = pair_state.copy(), n_states, 0
    if window > 0 and states[10][0] == 1 and n_states > 0:
        looks += _split_by_mass(pairs, 0, states, ptr, incoming, mass, weight, pair_list, block_list, seen, least, most, window)
    while pairs[10][2] > 0 or states[10][2] > 0:
        if pairs[10][2] > 0:
            piece, _ = _piece(pairs)
            n_counters = _split_by_offer(
                states, piece, pairs, pair_state, counter, count, n_counters, own, sample, state_list, state_blocks
            )
        else:
            piece, rest = _piece(states)
            looks += _split_by_mass(
                pairs, piece, states, ptr, incoming, mass, weight, pair_list, block_list, seen, least, most, window
            )
            if window > 0 and rest >= 0:  # differences of masses within the window need not be within it
                looks += _split_by_mass(
                    pairs, rest, states, ptr, incoming, mass, weight, pair_list, block_list, seen, least, most, window
                )
    return looks
