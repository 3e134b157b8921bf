# Flattens the part of YAML that user-data is written in (and JSON) to lines `path<TAB>value`, list items being
# numbered from 0:  users.0.name<TAB>cloud.  In values, backslash, newline and tab are written as \\ \n \t.
# Known: block maps and lists, flow maps and lists, quoted and plain scalars, | and > blocks, comments.
# Not known: anchors, tags, plain scalars over several lines (their first line is taken).

function emit(path, value) {
    gsub(/\\/, "\\\\", value); gsub(/\n/, "\\n", value); gsub(/\t/, "\\t", value)
    print path "\t" value
}
function join(path, key) { return path == "" ? key : path "." key }
function indent(s) { match(s, /^ */); return RLENGTH }
function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t\r]+$/, "", s); return s }
function blank(s) { return s ~ /^[ \t\r]*(#.*)?$/ || s ~ /^---/ || s ~ /^\.\.\./ }
function skip() { while (at <= count && blank(line[at])) at++ }

# the text of a scalar that stands on one line
function scalar(s,    c) {
    s = trim(s); c = substr(s, 1, 1)
    if (c == "\"" || c == "'") { flow_text = s; flow_at = 1; return quoted() }
    sub(/[ \t]+#.*$/, "", s)
    return (s == "~" || s == "null") ? "" : s
}
# a quoted string at flow_at; leaves flow_at behind it
function quoted(    q, c, r) {
    q = substr(flow_text, flow_at++, 1); r = ""
    while (flow_at <= length(flow_text)) {
        c = substr(flow_text, flow_at++, 1)
        if (c == q) {
            if (q == "'" && substr(flow_text, flow_at, 1) == q) { flow_at++; r = r q; continue }
            return r
        }
        if (c == "\\" && q == "\"") {
            c = substr(flow_text, flow_at++, 1)
            if (c == "n") c = "\n"; else if (c == "t") c = "\t"; else if (c == "r") c = "\r"
            else if (c == "u") { c = sprintf("%c", hex(substr(flow_text, flow_at, 4))); flow_at += 4 }
        }
        r = r c
    }
    return r
}
function hex(s,    i, n) {
    n = 0
    for (i = 1; i <= length(s); i++) n = n * 16 + index("0123456789abcdef", tolower(substr(s, i, 1))) - 1
    return n
}
function flow_space() { while (substr(flow_text, flow_at, 1) ~ /[ \t\n\r]/ && flow_at <= length(flow_text)) flow_at++ }
# {…}, […] or a scalar at flow_at
function flow(path,    c, key, n, v) {
    flow_space(); c = substr(flow_text, flow_at, 1)
    if (c == "{" || c == "[") {
        flow_at++; n = 0
        while (flow_at <= length(flow_text)) {
            flow_space(); v = substr(flow_text, flow_at, 1)
            if (v == "}" || v == "]") { flow_at++; return }
            if (v == ",") { flow_at++; continue }
            if (c == "[") { flow(join(path, n++)); continue }
            key = (v == "\"" || v == "'") ? quoted() : flow_plain(1)
            flow_space(); if (substr(flow_text, flow_at, 1) == ":") flow_at++
            flow(join(path, key))
        }
        return
    }
    if (c == "\"" || c == "'") { emit(path, quoted()); return }
    v = flow_plain(0); emit(path, (v == "null" || v == "~") ? "" : v)
}
function flow_plain(is_key,    r, c) {
    r = ""
    while (flow_at <= length(flow_text)) {
        c = substr(flow_text, flow_at, 1)
        if (c ~ /[],}\n]/ || (is_key && c == ":")) break
        r = r c; flow_at++
    }
    return trim(r)
}
# the lines of a | or > block below a line with this indentation
function block(header, parent,    r, own, s, fold, gap) {
    fold = header ~ /^>/; own = -1; r = ""; gap = ""
    for (; at <= count; at++) {
        s = line[at]
        if (s ~ /^[ \t\r]*$/) { gap = gap "\n"; continue }
        if (indent(s) <= parent) break
        if (own < 0) own = indent(s)
        if (r != "") r = r (gap != "" ? gap : "") (fold && gap == "" ? " " : (fold ? "" : "\n"))
        gap = ""; r = r substr(s, own + 1)
    }
    return header ~ /-/ ? r : r "\n"
}
# whatever stands behind `key:` or `- ` in a line of this indentation; `at` is already behind that line
function value(path, s, ind, may_be_list,    next_ind) {
    s = trim(s)
    if (s ~ /^[|>][-+0-9]*[ \t]*(#.*)?$/) { emit(path, block(s, ind)); return }
    if (s == "" || s ~ /^#/) {
        skip()
        if (at > count) return
        next_ind = indent(line[at])
        if (next_ind > ind || (may_be_list && next_ind == ind && trim(line[at]) ~ /^-( |$)/)) node(path, next_ind)
        return
    }
    if (s ~ /^[{[]/) { # may go on over more lines
        while (at <= count && indent(line[at]) > ind) s = s "\n" line[at++]
        flow_text = s; flow_at = 1; flow(path); return
    }
    emit(path, scalar(s))
    while (at <= count && !blank(line[at]) && indent(line[at]) > ind) at++
}
function node(path, ind,    s, key, n, inner, is_list) {
    n = 0; is_list = trim(line[at]) ~ /^-( |$)/
    for (skip(); at <= count && indent(line[at]) == ind; skip()) {
        s = trim(line[at])
        if (is_list != (s ~ /^-( |$)/)) return # a list may stand at the indentation of its key
        if (is_list) {
            sub(/^- */, "", s)
            if (s ~ KEY) { # a map begins behind the dash
                inner = index(line[at], "-") + 1
                while (substr(line[at], inner, 1) == " ") inner++
                line[at] = sprintf("%" (inner - 1) "s", "") s
                node(join(path, n++), inner - 1)
            } else { at++; value(join(path, n++), s, ind, 0) }
        } else if (match(s, KEY)) {
            key = scalar(substr(s, 1, index_colon(s) - 1)); s = substr(s, index_colon(s) + 1)
            at++; value(join(path, key), s, ind, 1)
        } else at++ # not understood
    }
}
function index_colon(s,    q, i) {
    q = substr(s, 1, 1)
    if (q == "\"" || q == "'") { i = index(substr(s, 2), q) + 1; return i + index(substr(s, i + 1), ":") }
    return index(s, ":")
}
BEGIN { KEY = "^(\"[^\"]*\"|'[^']*'|[A-Za-z0-9_.\\/-]+) *:( |$)" }
{ gsub(/\t/, "    "); line[++count] = $0 }
END {
    at = 1; skip()
    if (trim(line[at]) ~ /^[{[]/) {
        flow_text = ""
        for (; at <= count; at++) flow_text = flow_text line[at] "\n"
        flow_at = 1; flow("")
    } else if (at <= count) node("", indent(line[at]))
}
