#!/bin/sh
# An agent that speaks plain text: the input comes in, the answer goes out. It says everything louder.
#
#     sessiond agents add shout --runner command --option command='sh examples/agents/shout.sh' --option protocol=text

tr '[:lower:]' '[:upper:]'
printf '!\n'
