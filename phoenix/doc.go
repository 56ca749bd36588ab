// Package phoenix speaks the Phoenix Channels protocol, as a server: its frames, and what happens on one connection. It knows
// no sockets and nothing of what is sent; a transport hands it frames, and a Channel is what stands behind a topic.
//
// # What it guarantees
//
// Order: frames are handed to Send in the order in which they are to go out. The reply to a join comes before the first push
// of that join. Answers come in the order of the frames they answer. After phx_close or phx_error nothing comes for that
// join.
//
// One channel a topic: when a client joins a topic again, the old channel has ended before the new one begins, and nothing
// that belongs to the old one goes out after the new reply, but its phx_close.
//
// Answers: every message that can be read is answered exactly once, with two exceptions, which are Phoenix's own. What
// carries the join_ref of an earlier join is dropped, and what crashes its channel is answered by phx_error alone. A message
// without a ref is answered with a null ref.
//
// Channels: for each that Join returned, Joined comes first, Left is called exactly once and last, and its methods are called
// one at a time.
//
// Bounds: a session keeps, for each channel, a topic and a join_ref of at most 255 bytes, and 100 channels unless told
// otherwise. Decoding costs time proportional to the frame, and keeps nothing but a copy of the topic and of the event. A
// reply repeats from a frame what was in it, never more.
//
// A panic in a channel ends that channel, not the session.
//
// # What callers owe
//
// Frames are bounded by the transport, handed in by one goroutine at a time, and refused with an error only when the
// connection is to end. Whoever makes a Session closes it. No lock that Send or Left takes is held while a method of Session
// or Link is called. Responses and payloads are JSON objects; they are not checked.
//
// # Frames
//
// A frame of V2 is an array, a frame of V1 an object:
//
//	[join_ref, ref, topic, event, payload]
//	{"topic": topic, "event": event, "payload": payload, "ref": ref}       from the client also "join_ref"
//
// The ref is the client's number of a message, and comes back in the reply. The join_ref is the ref of the join that a
// message belongs to. Both are strings in most clients and numbers in some; they are echoed byte for byte. Frames of V1
// have no join_ref on their way to the client.
//
//	from the client                               answers, in V2
//	[null,"1","phoenix","heartbeat",{}]           [null,"1","phoenix","phx_reply",{"response":{},"status":"ok"}]
//	["2","2","room","phx_join",{}]                ["2","2","room","phx_reply",{"response":{},"status":"ok"}]
//	                                              ["2",null,"room","news",{}]   a push
//	["2","3","room","ask",{}]                     ["2","3","room","phx_reply",{"response":{},"status":"ok"}]
//	["2","4","room","phx_leave",{}]               ["2","4","room","phx_reply",{"response":{},"status":"ok"}]
//	                                              ["2","2","room","phx_close",{}]
//
// A refusal is a reply of status error. What is not joined is answered by the reason "unmatched topic" and a null join_ref.
// A channel that crashes is told by ["2","2","room","phx_error",{"reason":"channel_crash"}].
//
// # Where it is kinder than Phoenix
//
// A connection of V2 also takes objects, and answers each as an object; what a join by object pushes is objects too. A
// join_ref of "" counts as null, a payload of null as {}. A payload that is no object, and an event that the channel refuses
// because it does not know it, are answered by an error reply, where Phoenix would crash the channel. A join of V1 without a
// join_ref has its ref for one, so that phx_close and phx_error carry that: old clients tell by it which join ended.
package phoenix
