#!/bin/sh
# sh curl.sh FILE. WHISPER_URL is the endpoint's status.url; WHISPER_API_KEY only where spec.auth is set.
set -eu
curl --fail-with-body --silent --show-error --retry 5 \
  ${WHISPER_API_KEY:+--header "Authorization: Bearer $WHISPER_API_KEY"} \
  --form "file=@\"$1\"" --form response_format=text \
  "$WHISPER_URL/v1/audio/transcriptions"
