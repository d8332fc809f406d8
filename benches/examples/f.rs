#![allow(missing_docs)]
use rbpipe_core::{channel::*, backend::*, class::*, frontend::*, drain::*};
use rbpipe_backends::file::*;
use std::{sync::Arc, time::*};
fn main(){
  let a:Vec<String>=std::env::args().collect();
  let (size,count,payload,n,mode)=(a[1].parse::<u64>().unwrap(),a[2].parse().unwrap(),a[3].parse::<usize>().unwrap(),a[4].parse::<u64>().unwrap(),a[5].as_str());
  let ctx=Context::new("x");
    let classes=Arc::new(ClassRegistry::new());
    let c=classes.register(EventClass::new("a:b", vec![Field::new("x",FieldType::Sequence(Box::new(FieldType::U8)))])).unwrap();
    let mode=match mode {"discard"=>Mode::Discard,"overwrite"=>Mode::Overwrite,_=>Mode::Block};
    let plan=ChannelPlan{name:"t".into(),geometry:Geometry::new(size,count,4,84).unwrap(),mode,classes};
    let cfg:Config=Config{path:"/tmp/ttt".into(),overwrite:true,sync:Default::default()};
    let b=File::open(cfg, &plan,&ctx).unwrap();
    let o=ChannelOptions{plan,streams:Streams::PerThread(4),block_timeout:Some(Duration::from_secs(2)),switch_timer:Some(Duration::from_secs(1)),read_timer:Some(Duration::from_millis(10)),prefault:false};
    let t=Instant::now();
    let ch=Channel::open(o,b).unwrap();
    eprintln!("open {:?}", t.elapsed());
    let w=ch.writer(); let m=ch.monitor(); let ctl=Control::new(ch.waker());
    let d={let ctl=ctl.clone(); std::thread::spawn(move|| ch.run(&ctl,Duration::from_secs(1),&mut |n| eprintln!("{n}")))};
    let t=Instant::now();
    let writers=a.get(6).map_or(1,|s|s.parse().unwrap());
    let hs:Vec<_>=(0..writers).map(|_|{let w=w.clone(); std::thread::spawn(move||{
    let mut data=vec![7u8;payload+4]; data[..4].copy_from_slice(&(payload as u32).to_le_bytes());
    for _ in 0..n { let _=w.record(c,&data); } })}).collect();
    for h in hs {h.join().unwrap();}
    let e=t.elapsed();
    ctl.stop(); d.join().unwrap().unwrap();
    for s in m.streams() { if s.books.engine.offered()>0 { println!("{} {:?} ovw {}", s.id, s.books, s.books.overwritten()); } }
    let b:u64=m.streams().iter().map(|s|s.books.output_bytes).sum();
    println!("writers {:?}, all {:?}: {:.0} MB/s, {:.1} ns/rec", e, t.elapsed(), b as f64/t.elapsed().as_secs_f64()/1e6, e.as_nanos() as f64/n as f64);
}
