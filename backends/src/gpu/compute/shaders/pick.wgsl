// Takes the values of a field out of the records of one class.
//
// `columns` is the class; `a` where the field begins in the payload; `b` its bytes.

@compute @workgroup_size(1)
fn pick(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let number = task_of(group, groups);
    if number >= params.count {
        return;
    }
    let turn = turns[params.first + number];
    for (var p = 0u; p < turn.count; p++) {
        let place = places[turn.first + p];
        for (var i = 0u; i < place.count; i++) {
            let entry = entries[place.entry + i];
            if entry.z == NONE {
                // There are no more records in the packet, and should be.
                break;
            }
            if entry.z == params.columns {
                let value = value_at(payload_of(place, entry) + params.a, params.b);
                add(turn.lane, vec4<u32>(entry.xy, value));
            }
        }
    }
}
