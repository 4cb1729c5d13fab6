#!/usr/bin/env bash
# The chat as a person sees it, on a terminal.
. "$(dirname "$0")/lib.sh"
export TERM=xterm
unset NO_COLOR

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
start_split "--store $tmp/store" 0-2 3-5 6-7
dim=$'\033[2m' plain=$'\033[0m'

"$bin/typist" "$bin/swarm-ask" --greedy <<END || die "a conversation"
expect /help lists the commands
expect > 
type What is the capital of France?
expect The capital of France is Paris.
expect > 
type And its currency?
expect Euro
expect > 
type /new
expect (a new conversation)
expect > 
type Which is larger, Brazil or Kenya?
expect ${dim}Brazil covers
expect ${plain}
expect Brazil is larger.
expect > 
press c
expect (/quit leaves)
type /quit
end 0
END

# ctrl-C stops an answer in its middle, and the conversation goes on.
"$bin/typist" "$bin/swarm-ask" "${link[n0]}" --temperature 100 --top-p 1 --top-k 0 --seed 2 \
    <<END || die "an interrupted answer"
expect > 
type Tell me about Japan.
expect Herzegovina
shell kill -STOP ${pid[n1]}
press c
expect > 
shell kill -CONT ${pid[n1]}
shell $bin/probe ${link[n0]} sessions 0
press d
end 0
END

# Outside a chat the first ctrl-C ends the program.
"$bin/typist" "$bin/swarm-ask" "${link[n0]}" --temperature 100 --top-p 1 --top-k 0 --seed 2 \
    "Tell me about Japan." <<END || die "an interrupted question"
expect Herzegovina
shell kill -STOP ${pid[n1]}
press c
end 130
shell kill -CONT ${pid[n1]}
END
probe sessions 0
stop_all
echo "chatted"
