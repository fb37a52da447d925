# The functions of the suite in upstream's order, one a line: those that SCRIPT (legacy-script.sh)
# records, and the two parts that it runs outside of any function (see driver.sh).
awk '/^ *record_command run_/ {print $2}
     /# find all resources/ {print "run_inline_api_resources_tests"}
     /# kubectl auth can-i$/ {print "run_inline_auth_tests"}' "$SCRIPT"
