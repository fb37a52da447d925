# The functions of the suite in upstream's order, one a line: those that SCRIPT (legacy-script.sh)
# records, and the three parts that upstream runs outside of any function (see driver.sh).
awk 'BEGIN {print "run_inline_custom_version_tests"}
     /^ *record_command run_/ {print $2}
     /# find all resources/ {print "run_inline_api_resources_tests"}
     /# kubectl auth can-i$/ {print "run_inline_auth_tests"}' "$SCRIPT"
