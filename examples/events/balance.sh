#!/bin/sh
# Makes balances of events: lines of an account and what was added to it.
awk '{ balance[$1] += $2 } END { for (account in balance) print account " has " balance[account] }' | sort
